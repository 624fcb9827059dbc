// The runtime whose orchestration runs on the host: its whole graph is recorded, then executes. It is kept with its
// callable, and replayed without the orchestration while nothing that the orchestration could have seen has changed.
#pragma once

#include "graph/graph_builder.h"

#include <memory>
#include <vector>

namespace simpler {

// Slots that stay where they are, many to an allocation.
class SlotStore {
public:
  TaskSlot &add() {
    if (count_ == CHUNK * chunks_.size())
      chunks_.push_back(std::make_unique<TaskSlot[]>(CHUNK));
    return (*this)[count_++];
  }
  TaskSlot &operator[](size_t i) { return chunks_[i / CHUNK][i % CHUNK]; }
  size_t size() const { return count_; }
  void clear() {
    chunks_.clear();
    count_ = 0;
  }

private:
  static constexpr size_t CHUNK = 64;
  std::vector<std::unique_ptr<TaskSlot[]>> chunks_;
  size_t count_ = 0;
};

// A graph that was recorded.
struct RecordedGraph final : KeptGraph {
  // Tasks that execute together; the next part begins when they are through.
  struct Part {
    std::vector<TaskSlot *> first; // tasks that wait for none
    uint64_t count = 0;
  };
  // Where an address inside an argument stands.
  struct Use {
    TaskSlot *slot;
    uint32_t operand; // ~0: the condition
    uint32_t argument;
  };

  std::vector<uint64_t> key;       // all that the orchestration could see of its call
  std::vector<uint64_t> arguments; // where each of them begins
  SlotStore slots;
  std::vector<Part> parts;
  std::vector<Use> uses;
};

class HostBuildGraph final : public GraphBuilder {
public:
  using GraphBuilder::GraphBuilder;

  void run(const GraphRequest &request) override;

private:
  // A larger graph is not kept: it executes in parts, and is forgotten part by part.
  static constexpr size_t MOST_TASKS = 1 << 18;

  TaskSlot &place(uint64_t number) override;
  void hand_over(TaskSlot &slot, std::span<const TaskId> producers) override;
  bool is_live(TaskId id) const override { return id.number() >= executed_; }
  bool wait(const std::function<bool()> &done) override;
  void wait_all() override { execute(); }
  void used(const TaskSlot &slot, uint32_t operand, const Buffer &buffer) override;
  void looked() override { keep_ = false; }

  void record(const GraphRequest &request);
  void execute();
  void launch(const RecordedGraph::Part &part);
  void move_arguments(RecordedGraph &graph) const;
  std::vector<uint64_t> key_of(const GraphRequest &request) const;

  std::unique_ptr<RecordedGraph> graph_; // being recorded
  bool keep_ = false;
  uint64_t executed_ = 0; // tasks
};

} // namespace simpler
