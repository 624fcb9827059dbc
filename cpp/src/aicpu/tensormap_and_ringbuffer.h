// The runtime whose orchestration runs on an AICPU thread: tasks execute as soon as they can, while it goes on. Slots
// and memory are few and used again: what is submitted too early waits.
#pragma once

#include "graph/graph_builder.h"

namespace simpler {

class TensormapAndRingbuffer final : public GraphBuilder {
public:
  using GraphBuilder::GraphBuilder;

  void run(const GraphRequest &request) override {
    struct AtEnd {
      TensormapAndRingbuffer &builder;
      ~AtEnd() { builder.end(); }
    } at_end{*this};
    begin(request);
    build(request);
    executor().finish();
  }

private:
  TaskSlot &place(uint64_t number) override { return executor().acquire(number); }
  void hand_over(TaskSlot &slot, std::span<const TaskId> producers) override { executor().submit(slot, producers); }
  bool is_live(TaskId id) const override { return executor().is_live(id); }
  bool wait(const std::function<bool()> &done) override { return executor().wait(done); }
  void wait_all() override { executor().wait_all(); }
};

} // namespace simpler
