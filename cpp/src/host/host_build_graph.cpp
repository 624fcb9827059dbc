#include "host/host_build_graph.h"

namespace simpler {

void HostBuildGraph::run(const GraphRequest &request) {
  struct AtEnd {
    HostBuildGraph &builder;
    ~AtEnd() {
      builder.graph_.reset();
      builder.end();
    }
  } at_end{*this};
  begin(request);
  executed_ = 0;
  auto kept = std::unique_ptr<RecordedGraph>(static_cast<RecordedGraph *>(request.kept->release()));
  std::vector<uint64_t> key = key_of(request);
  if (kept != nullptr && kept->key == key) {
    graph_ = std::move(kept);
    move_arguments(*graph_);
    keep_ = true;
    ++replayed_;
    try {
      for (const RecordedGraph::Part &part : graph_->parts)
        launch(part);
    } catch (const RunAborted &) { // the executor knows why
    } catch (const Interrupted &) {
      executor().fail(std::current_exception());
    }
  } else {
    kept.reset(); // before the new one takes memory
    record(request);
    graph_->key = std::move(key);
  }
  executor().finish(); // throws if the run failed, and the graph is gone: its tasks stopped anywhere
  if (keep_)
    *request.kept = std::move(graph_);
}

void HostBuildGraph::record(const GraphRequest &request) {
  graph_ = std::make_unique<RecordedGraph>();
  graph_->parts.emplace_back();
  graph_->arguments = argument_begins();
  keep_ = true;
  build(request);
  if (executor().failed())
    return;
  try {
    execute();
  } catch (const RunAborted &) { // the executor knows why
  } catch (const Interrupted &) {
    executor().fail(std::current_exception());
  }
}

// Shapes, types, scalars, and how the arguments overlap; where they are does not matter.
std::vector<uint64_t> HostBuildGraph::key_of(const GraphRequest &request) const {
  const TaskArgsView &args = request.args;
  std::vector<uint64_t> key;
  key.reserve(16 + 8 * static_cast<size_t>(args.tensor_count) + static_cast<size_t>(args.scalar_count));
  key.assign({request.heap_nbytes, request.block_num[0], request.block_num[1]});
  for (int32_t i = 0; i < args.tensor_count; ++i) {
    const ContinuousTensor &t = args.tensors[i];
    key.push_back(uint64_t{t.ndims} << 16 | uint64_t{t.dtype} << 8 | t.child_memory);
    key.insert(key.end(), t.shapes, t.shapes + t.ndims);
    if (nbytes_of(t) == 0)
      continue;
    const uint32_t argument = argument_with(t.data);
    key.push_back(argument);
    key.push_back(t.data - argument_begins()[argument]);
  }
  key.insert(key.end(), args.scalars, args.scalars + args.scalar_count);
  return key;
}

// Lets a recorded graph work on the arguments of this run.
void HostBuildGraph::move_arguments(RecordedGraph &graph) const {
  std::vector<uint64_t> distances;
  bool moved = false;
  for (size_t i = 0; i < graph.arguments.size(); ++i) {
    distances.push_back(argument_begins()[i] - graph.arguments[i]);
    moved = moved || distances.back() != 0;
  }
  graph.arguments = argument_begins();
  if (!moved)
    return;
  for (const RecordedGraph::Use &use : graph.uses) {
    const uint64_t distance = distances[use.argument];
    if (use.operand == ~0U) {
      use.slot->spill->condition += distance;
      continue;
    }
    ContinuousTensor &tensor = use.slot->tensors()[use.operand];
    if (tensor.data != 0)
      tensor.data += distance;
    if (use.slot->strided)
      use.slot->views()[use.operand].data += distance;
  }
}

TaskSlot &HostBuildGraph::place(uint64_t number) {
  if (executor().failed())
    throw RunAborted{};
  if (graph_->slots.size() >= MOST_TASKS) {
    keep_ = false;
    execute();
  }
  TaskSlot &slot = graph_->slots.add();
  slot.id = TaskId(number, static_cast<uint32_t>(graph_->slots.size() - 1));
  slot.recorded = true;
  return slot;
}

void HostBuildGraph::hand_over(TaskSlot &slot, std::span<const TaskId> producers) {
  slot.dependents.store(nullptr, std::memory_order_relaxed);
  Edge *edges = slot.place_edges(producers.size());
  for (const TaskId id : producers) {
    TaskSlot &producer = graph_->slots[id.slot()];
    *edges = {producer.dependents.load(std::memory_order_relaxed), &slot};
    producer.dependents.store(edges++, std::memory_order_relaxed);
  }
  slot.fan_in = static_cast<uint32_t>(producers.size());
  slot.waits_for.store(slot.fan_in, std::memory_order_relaxed);
  RecordedGraph::Part &part = graph_->parts.back();
  ++part.count;
  if (slot.fan_in == 0)
    part.first.push_back(&slot);
}

void HostBuildGraph::used(const TaskSlot &slot, uint32_t operand, const Buffer &buffer) {
  if (buffer.argument != Buffer::NO_ARGUMENT)
    graph_->uses.push_back({const_cast<TaskSlot *>(&slot), operand, buffer.argument});
  else if (buffer.block == nullptr)
    keep_ = false; // memory that no argument led to: the next run may have other
}

bool HostBuildGraph::wait(const std::function<bool()> &done) {
  execute();
  return done();
}

// Lets what was recorded so far execute; what is recorded from now on comes after it.
void HostBuildGraph::execute() {
  launch(graph_->parts.back());
  executed_ = submitted();
  if (keep_) {
    graph_->parts.emplace_back();
    return;
  }
  graph_->parts.assign(1, {});
  graph_->uses.clear();
  graph_->slots.clear();
}

void HostBuildGraph::launch(const RecordedGraph::Part &part) {
  if (part.count == 0)
    return;
  executor().launch(part.first, part.count);
  executor().wait_all();
}

} // namespace simpler
