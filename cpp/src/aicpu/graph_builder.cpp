#include "aicpu/graph_builder.h"

#include "simpler/errors.h"

#include <algorithm>
#include <limits>

namespace simpler {
namespace {

// How much of a heap ring stays resident between runs.
constexpr uint64_t KEEP_RESIDENT = uint64_t{64} << 20;

} // namespace

// What a call from the orchestration throws ends the run, even if the orchestration catches it.
template <class Call> auto GraphBuilder::guarded(Graph &graph, Call &&call) {
  auto &builder = static_cast<GraphBuilder &>(graph);
  try {
    return call(builder);
  } catch (const RunAborted &) {
    throw;
  } catch (...) {
    builder.scheduler_.fail(std::current_exception());
    throw RunAborted{};
  }
}

const Graph::Services GraphBuilder::SERVICES = {
    .alloc =
        [](Graph &graph, DataType dtype, const int64_t *shape, uint32_t ndims) {
          return guarded(graph, [&](GraphBuilder &builder) { return builder.alloc_tensor(dtype, shape, ndims); });
        },
    .submit = [](Graph &graph,
                 const Task &task) { guarded(graph, [&](GraphBuilder &builder) { builder.submit_task(task); }); },
    .enter_scope = [](Graph &graph) { guarded(graph, [](GraphBuilder &builder) { builder.enter(); }); },
    .leave_scope = [](Graph &graph) noexcept { static_cast<GraphBuilder &>(graph).leave(); },
    .fail =
        [](Graph &graph, const char *where, const char *format, va_list values) {
          static_cast<GraphBuilder &>(graph).fail_orchestration(failure_text(where, format, values));
          throw RunAborted{};
        },
};

GraphBuilder::GraphBuilder(DeviceMemory &memory, Scheduler &scheduler, uint64_t heap_nbytes)
    : Graph{&SERVICES}, memory_(memory), scheduler_(scheduler),
      heap_nbytes_(std::max<uint64_t>(1, heap_nbytes / HeapRing::ALIGNMENT) * HeapRing::ALIGNMENT) {}

void GraphBuilder::run(std::string_view callable, std::string_view symbol, OrchestrationFunction orchestrate,
                       std::span<const KernelEntry> kernels, const TaskArgsView &args,
                       std::span<const DeviceRange> ranges) {
  callable_ = callable;
  symbol_ = symbol;
  kernels_ = kernels;
  ranges_ = ranges;
  scopes_.assign(1, {});
  try {
    orchestrate(*this, args);
  } catch (const RunAborted &) { // the scheduler knows why
  } catch (const std::exception &e) {
    fail_orchestration(std::string("C++ exception: ") + e.what());
  } catch (...) {
    fail_orchestration("C++ exception of an unknown type");
  }
  struct AtEnd {
    GraphBuilder &builder;
    ~AtEnd() { builder.end_run(); }
  } at_end{*this};
  scheduler_.finish();
}

void GraphBuilder::fail_orchestration(std::string message) {
  scheduler_.fail(
      std::make_exception_ptr(KernelError(std::string(callable_), -1, std::string(symbol_), -1, std::move(message))));
}

void GraphBuilder::end_run() noexcept {
  tensor_map_.clear();
  for (const auto &ring : rings_) {
    if (ring == nullptr)
      continue;
    if (ring->high_water() > KEEP_RESIDENT)
      memory_.give_back(ring->base() + KEEP_RESIDENT, ring->high_water() - KEEP_RESIDENT);
    ring->reset();
  }
}

ContinuousTensor GraphBuilder::alloc_tensor(DataType dtype, const int64_t *shape, uint32_t ndims) {
  ContinuousTensor tensor{};
  if (ndims > MAX_TENSOR_DIMS)
    fail("alloc", "a tensor of %u dimensions; %u are possible", ndims, MAX_TENSOR_DIMS);
  for (uint32_t i = 0; i < ndims; ++i) {
    if (shape[i] < 0 || shape[i] > std::numeric_limits<uint32_t>::max())
      fail("alloc", "extent %lld in dimension %u", static_cast<long long>(shape[i]), i);
    tensor.shapes[i] = static_cast<uint32_t>(shape[i]);
  }
  tensor.ndims = ndims;
  tensor.dtype = static_cast<uint8_t>(dtype);
  tensor.child_memory = 1;
  if (!is_valid(tensor))
    fail("alloc", "a tensor with an unknown dtype or a size beyond 63 bits");

  HeapRing &ring = ring_of_scope();
  const uint64_t nbytes = nbytes_of(tensor);
  HeapRing::Block *block = ring.try_alloc(nbytes);
  if (block == nullptr)
    scheduler_.help_until([&] { return (block = ring.try_alloc(nbytes)) != nullptr; }, Scheduler::Awaits::ANY_TASK);
  if (block == nullptr)
    throw RingFull(ring.name(), "the " + ring.name() + " is full: " + std::to_string(nbytes) + " bytes asked for, " +
                                    std::to_string(ring.used()) + " of " + std::to_string(ring.nbytes()) +
                                    " bytes are in use by " + std::to_string(ring.live()) +
                                    " tensors, and no task that runs will free any; enlarge the heap rings "
                                    "(heap_ring_nbytes) or end scopes earlier");
  scopes_.back().push_back(block);
  tensor.data = block->begin;
  return tensor;
}

HeapRing &GraphBuilder::ring_of_scope() {
  const size_t depth = std::min(scopes_.size() - 1, HEAP_RINGS - 1);
  auto &ring = rings_[depth];
  if (ring == nullptr)
    ring =
        std::make_unique<HeapRing>("heap ring " + std::to_string(depth), memory_.allocate(heap_nbytes_), heap_nbytes_);
  return *ring;
}

HeapRing *GraphBuilder::ring_with(uint64_t address) {
  for (const auto &ring : rings_)
    if (ring != nullptr && ring->covers(address))
      return ring.get();
  return nullptr;
}

void GraphBuilder::enter() { scopes_.emplace_back(); }

void GraphBuilder::leave() noexcept {
  for (HeapRing::Block *block : scopes_.back())
    block->open = false;
  scopes_.pop_back();
}

const KernelEntry &GraphBuilder::kernel_of(const Task &task) const {
  const auto it = std::lower_bound(kernels_.begin(), kernels_.end(), task.func_id,
                                   [](const KernelEntry &kernel, int32_t id) { return kernel.func_id < id; });
  if (it != kernels_.end() && it->func_id == task.func_id)
    return *it;
  std::string known;
  for (const KernelEntry &kernel : kernels_)
    known += (known.empty() ? "" : ", ") + std::to_string(kernel.func_id);
  throw CallableError("callable '" + std::string(callable_) + "' submits task " +
                      std::to_string(scheduler_.submitted()) + " with func_id " + std::to_string(task.func_id) +
                      ", which none of its kernels has (they have " + (known.empty() ? "none" : known) + ")");
}

void GraphBuilder::check(const Task &task, const KernelEntry &kernel) const {
  const auto refuse = [&](const std::string &what) {
    throw CallableError("callable '" + std::string(callable_) + "' submits task " +
                        std::to_string(scheduler_.submitted()) + " (kernel '" + std::string(kernel.name) + "') with " +
                        what);
  };
  if (task.tensor_count > MAX_TASK_TENSORS)
    refuse(std::to_string(task.tensor_count) + " tensors; " + std::to_string(MAX_TASK_TENSORS) + " are possible");
  if (task.scalar_count > MAX_TASK_SCALARS)
    refuse(std::to_string(task.scalar_count) + " scalars; " + std::to_string(MAX_TASK_SCALARS) + " are possible");
  if (const char *what = check_args({task.tensor_count, task.scalar_count, task.tensors, task.scalars}))
    refuse(what);
}

void GraphBuilder::submit_task(const Task &task) {
  const KernelEntry &kernel = kernel_of(task);
  check(task, kernel);
  TaskSlot &slot = scheduler_.acquire();
  slot.kernel = &kernel;
  slot.tensor_count = task.tensor_count;
  slot.scalar_count = task.scalar_count;
  std::copy_n(task.tensors, task.tensor_count, slot.tensors);
  std::copy_n(task.scalars, task.scalar_count, slot.scalars);
  producers_.clear();
  for (int32_t i = 0; i < task.tensor_count; ++i)
    bind(task, i, slot);
  for (HeapRing::Block *block : slot.holds)
    block->hold();
  scheduler_.submit(slot, producers_);
}

// Checks where a tensor lies, and adds what its task has to wait for.
void GraphBuilder::bind(const Task &task, int32_t i, TaskSlot &slot) {
  const ContinuousTensor &tensor = task.tensors[i];
  const uint64_t begin = tensor.data, nbytes = nbytes_of(tensor);
  if (nbytes == 0)
    return;
  const auto refuse = [&](const char *what) {
    throw DeviceMemoryError("tensor " + std::to_string(i) + " of task " + std::to_string(slot.id) + " (kernel '" +
                            std::string(slot.kernel->name) + "' of callable '" + std::string(callable_) +
                            "'): " + describe_range(begin, nbytes) + ' ' + what);
  };
  const bool in_ranges = std::any_of(ranges_.begin(), ranges_.end(), [&](const DeviceRange &range) {
    return begin >= range.begin && begin <= range.end && nbytes <= range.end - begin;
  });
  if (!in_ranges) {
    if (HeapRing *ring = ring_with(begin)) {
      HeapRing::Block *block = ring->find(begin);
      if (block == nullptr || !block->open)
        refuse("belong to a tensor whose scope has ended");
      if (nbytes > block->asked || begin - block->begin > block->asked - nbytes)
        refuse("reach beyond the end of the tensor that was allocated there");
      slot.holds.push_back(block);
    } else if (!memory_.contains(begin, nbytes)) {
      refuse("are not inside one live allocation of device memory");
    }
  }
  if (task.tags[i] == TensorArgType::NO_DEP)
    return;
  tensor_map_.access(
      begin, begin + nbytes, writes(task.tags[i]), slot.id, [&](uint64_t id) { return scheduler_.is_live(id); },
      [&](uint64_t id) { producers_.push_back(id); });
}

} // namespace simpler
