#include "graph/graph_builder.h"

#include "aicore/ai_core.h"
#include "simpler/errors.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace simpler {
namespace {

// How much of a heap ring stays resident between runs.
constexpr uint64_t KEEP_RESIDENT = uint64_t{64} << 20;

bool can_be_condition(DataType type) {
  return type != DataType::FLOAT32 && type != DataType::FLOAT16 && type != DataType::BFLOAT16;
}

} // namespace

// What a call from the orchestration throws ends the run, even if the orchestration catches it.
template <class Call> auto GraphBuilder::guarded(Graph &graph, Call &&call) {
  auto &builder = static_cast<GraphBuilder &>(graph);
  try {
    return call(builder);
  } catch (const RunAborted &) {
    throw;
  } catch (...) {
    builder.executor_.fail(std::current_exception());
    throw RunAborted{};
  }
}

const Graph::Services GraphBuilder::SERVICES = {
    .alloc =
        [](Graph &graph, DataType dtype, const int64_t *shape, uint32_t ndims) {
          return guarded(graph, [&](GraphBuilder &builder) { return builder.alloc_tensor(dtype, shape, ndims); });
        },
    .submit =
        [](Graph &graph, const Task &task) {
          return guarded(graph, [&](GraphBuilder &builder) { return builder.submit_task(task); });
        },
    .enter_scope =
        [](Graph &graph, bool manual, const char *where) {
          guarded(graph, [&](GraphBuilder &builder) { builder.enter(manual, where); });
        },
    .leave_scope = [](Graph &graph) noexcept { static_cast<GraphBuilder &>(graph).leave(); },
    .read =
        [](Graph &graph, const TensorView &t, const int64_t *index, uint32_t count, DataType type, void *value) {
          guarded(graph, [&](GraphBuilder &builder) {
            const uint64_t address = builder.find_element(t, index, count, type, false);
            std::memcpy(value, reinterpret_cast<const void *>(address), itemsize(type));
          });
        },
    .write =
        [](Graph &graph, const TensorView &t, const int64_t *index, uint32_t count, DataType type, const void *value) {
          guarded(graph, [&](GraphBuilder &builder) {
            const uint64_t address = builder.find_element(t, index, count, type, true);
            std::memcpy(reinterpret_cast<void *>(address), value, itemsize(type));
          });
        },
    .fail =
        [](Graph &graph, const char *where, const char *format, va_list values) {
          static_cast<GraphBuilder &>(graph).fail_orchestration(failure_text(where, format, values));
          throw RunAborted{};
        },
};

GraphBuilder::GraphBuilder(DeviceMemory &memory, Executor &executor, uint64_t heap_nbytes)
    : Graph{&SERVICES}, memory_(memory), executor_(executor), heap_nbytes_(HeapRing::whole(heap_nbytes)) {}

void GraphBuilder::begin(const GraphRequest &request) {
  request_ = request;
  request_.heap_nbytes = HeapRing::whole(request.heap_nbytes);
  ++run_;
  submitted_ = scopes_entered_ = 0;
  untracked_ = false;
  for (const auto &ring : rings_)
    if (ring != nullptr)
      ring->reset(request_.heap_nbytes);
  find_arguments(request.args);
}

void GraphBuilder::build(const GraphRequest &request) {
  ++built_;
  scopes_.clear();
  enter(false, nullptr);
  try {
    request.orchestrate(*this, request.args);
  } catch (const RunAborted &) { // the executor knows why
  } catch (const std::exception &e) {
    fail_orchestration(std::string("C++ exception: ") + e.what());
  } catch (...) {
    fail_orchestration("C++ exception of an unknown type");
  }
}

void GraphBuilder::end() noexcept {
  tensor_map_.clear();
  scopes_.clear();
  for (const auto &ring : rings_)
    if (ring != nullptr && ring->high_water() > KEEP_RESIDENT)
      memory_.give_back(ring->base() + KEEP_RESIDENT, ring->high_water() - KEEP_RESIDENT);
}

void GraphBuilder::fail_orchestration(std::string message) {
  executor_.fail(std::make_exception_ptr(
      KernelError(std::string(request_.callable), -1, std::string(request_.symbol), -1, std::move(message))));
}

void GraphBuilder::find_arguments(const TaskArgsView &args) {
  arguments_.clear();
  argument_begins_.clear();
  for (int32_t i = 0; i < args.tensor_count; ++i)
    if (const uint64_t nbytes = nbytes_of(args.tensors[i]); nbytes != 0)
      arguments_.push_back({args.tensors[i].data, args.tensors[i].data + nbytes, static_cast<uint32_t>(i)});
  std::sort(arguments_.begin(), arguments_.end(), [](const auto &a, const auto &b) { return a.begin < b.begin; });
  size_t count = 0;
  for (const Argument range : arguments_) {
    if (count != 0 && range.begin < arguments_[count - 1].end) {
      arguments_[count - 1].end = std::max(arguments_[count - 1].end, range.end);
      arguments_[count - 1].index = std::min(arguments_[count - 1].index, range.index);
    } else {
      arguments_[count++] = range;
    }
  }
  arguments_.resize(count);
  // So far the index is that of its first tensor; from now on it counts those that there are.
  for (int32_t i = 0; i < args.tensor_count; ++i)
    for (Argument &range : arguments_)
      if (range.index == static_cast<uint32_t>(i)) {
        range.index = static_cast<uint32_t>(argument_begins_.size());
        argument_begins_.push_back(range.begin);
        break;
      }
}

uint32_t GraphBuilder::argument_with(uint64_t address) const {
  const auto next = std::upper_bound(arguments_.begin(), arguments_.end(), address,
                                     [](uint64_t at, const Argument &range) { return at < range.begin; });
  return std::prev(next)->index;
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
  if (!is_valid(tensor))
    fail("alloc", "a tensor with an unknown dtype or a size beyond 63 bits");
  allocate(tensor);
  return tensor;
}

// Gives a valid tensor memory.
void GraphBuilder::allocate(ContinuousTensor &tensor) {
  tensor.child_memory = 1;
  HeapRing &ring = ring_of_scope();
  const uint64_t nbytes = nbytes_of(tensor);
  HeapRing::Block *block = nullptr;
  const auto try_it = [&] { // asked again after it was true, it takes no second block
    if (block == nullptr)
      block = ring.try_alloc(
          nbytes, scopes_.back().number, [this](TaskId id) { return is_live(id); },
          [this](const HeapRing::Block &gone) { tensor_map_.forget(gone.begin); });
    return block != nullptr;
  };
  if (!try_it() && !wait(try_it))
    ring_is_full(ring, nbytes);
  scopes_.back().blocks.push_back(block);
  tensor.data = block->begin;
}

// Nothing runs, so what fills the ring are blocks of open scopes, and what lies behind the oldest of them.
void GraphBuilder::ring_is_full(const HeapRing &ring, uint64_t nbytes) const {
  std::string scope, blame;
  if (const HeapRing::Block *oldest = ring.oldest())
    for (size_t depth = 0; depth < scopes_.size(); ++depth)
      if (const OpenScope &open = scopes_[depth]; open.number == oldest->scope) {
        scope = open.where != nullptr ? open.where
                : depth == 0          ? "the whole run"
                                      : "scope " + std::to_string(open.number);
        blame = "; the oldest tensor in it is of " + (depth == 0 ? scope : "scope '" + scope + "'") + " (depth " +
                std::to_string(depth) + "), which is still open and holds " +
                std::to_string(ring.used_by(open.number)) + " bytes";
      }
  throw RingFull(ring.name(),
                 "the " + ring.name() + " is full: " + std::to_string(nbytes) + " bytes asked for, " +
                     std::to_string(ring.used()) + " of " + std::to_string(ring.nbytes()) + " bytes are in use by " +
                     std::to_string(ring.live_blocks()) + " tensors, and no task that runs will free any" + blame +
                     "; enlarge the heap rings (heap_ring_nbytes) or end scopes earlier",
                 scope);
}

HeapRing &GraphBuilder::ring_of_scope() {
  const size_t depth = std::min(scopes_.size() - 1, HEAP_RINGS - 1);
  auto &ring = rings_[depth];
  if (ring == nullptr) {
    ring =
        std::make_unique<HeapRing>("heap ring " + std::to_string(depth), memory_.allocate(heap_nbytes_), heap_nbytes_);
    ring->reset(request_.heap_nbytes);
  }
  return *ring;
}

HeapRing *GraphBuilder::ring_with(uint64_t address) {
  for (const auto &ring : rings_)
    if (ring != nullptr && ring->covers(address))
      return ring.get();
  return nullptr;
}

void GraphBuilder::enter(bool manual, const char *where) {
  const bool inside_manual = !scopes_.empty() && scopes_.back().manual;
  scopes_.push_back({scopes_entered_++, manual || inside_manual, where, {}});
}

void GraphBuilder::leave() {
  if (scopes_.size() == 1) {
    fail_orchestration("a scope was left that is not open");
    return;
  }
  for (HeapRing::Block *block : scopes_.back().blocks)
    block->open = false;
  scopes_.pop_back();
}

uint16_t GraphBuilder::kernel_of(const Task &task) const {
  const auto kernels = request_.kernels;
  const auto it = std::lower_bound(kernels.begin(), kernels.end(), task.func_id,
                                   [](const KernelInfo &kernel, int32_t id) { return kernel.func_id < id; });
  if (it != kernels.end() && it->func_id == task.func_id)
    return static_cast<uint16_t>(it - kernels.begin());
  std::string known;
  for (const KernelInfo &kernel : kernels)
    known += (known.empty() ? "" : ", ") + std::to_string(kernel.func_id);
  throw CallableError("callable '" + std::string(request_.callable) + "' submits task " + std::to_string(submitted_) +
                      " with func_id " + std::to_string(task.func_id) + ", which none of its kernels has (they have " +
                      (known.empty() ? "none" : known) + ")");
}

// "callable 'x' submits task 7 (kernel 'y')"
std::string GraphBuilder::describe(const Task &task) const {
  return "callable '" + std::string(request_.callable) + "' submits task " + std::to_string(submitted_) +
         (task.func_id == NO_KERNEL ? " (a join)"
                                    : " (kernel '" + std::string(request_.kernels[kernel_of(task)].name) + "')");
}

void GraphBuilder::check(const Task &task) const {
  const auto refuse = [&](const std::string &what) { throw CallableError(describe(task) + " with " + what); };
  const auto too_many = [&](int32_t count, int32_t most, const char *what) {
    refuse(std::to_string(count) + ' ' + what + "; " + std::to_string(most) + " are possible");
  };
  if (task.tensor_count > MAX_TASK_TENSORS)
    too_many(task.tensor_count, MAX_TASK_TENSORS, "tensors");
  if (task.scalar_count > MAX_TASK_SCALARS)
    too_many(task.scalar_count, MAX_TASK_SCALARS, "scalars");
  if (task.dependency_count > MAX_TASK_DEPENDENCIES)
    too_many(task.dependency_count, MAX_TASK_DEPENDENCIES, "dependencies");
  for (int32_t i = 0; i < task.tensor_count; ++i)
    if (!is_valid(task.tensors[i].dense()))
      refuse("a tensor with an unknown dtype, more than 5 dimensions or a size beyond 63 bits");
  if (task.bad_extent)
    refuse("an output of an impossible extent");
  if (task.conditional &&
      (!is_valid(task.condition) || element_count(task.condition) != 1 || !can_be_condition(task.condition.type())))
    refuse("a condition that is not one integer or bool");
}

TaskHandle GraphBuilder::submit_task(const Task &task) {
  const bool has_kernel = task.func_id != NO_KERNEL;
  const uint16_t kernel = has_kernel ? kernel_of(task) : 0;
  check(task);
  if (task.creates != 0)
    create_outputs(task);
  TaskSlot &slot = place(submitted_);
  slot.kernel = kernel;
  slot.has_kernel = has_kernel;
  slot.core_type = has_kernel ? request_.kernels[kernel].core_type : CoreType::AIV;
  slot.block_num = task.block_num != 0 ? task.block_num : request_.block_num[static_cast<uint32_t>(slot.core_type)];
  fill(task, slot);
  producers_.clear();
  for (int32_t i = 0; i < task.tensor_count; ++i)
    bind(task, static_cast<uint32_t>(i), slot);
  slot.condition_nbytes = 0;
  if (task.conditional)
    bind_condition(task, slot);
  if (task.dependency_count != 0)
    bind_dependencies(task);
  if (producers_.size() > 1) {
    std::sort(producers_.begin(), producers_.end());
    producers_.erase(std::unique(producers_.begin(), producers_.end()), producers_.end());
  }
  const TaskHandle handle{slot.id.bits(), run_};
  ++submitted_;
  hand_over(slot, producers_);
  return handle;
}

void GraphBuilder::create_outputs(const Task &task) {
  for (int32_t i = 0; i < task.tensor_count; ++i)
    if ((task.creates >> i & 1) != 0) {
      created_[i] = task.tensors[i].dense();
      allocate(created_[i]);
      *task.created_at[i] = created_[i];
    }
}

// Copies the arguments.
void GraphBuilder::fill(const Task &task, TaskSlot &slot) {
  slot.tensor_count = static_cast<uint8_t>(task.tensor_count);
  slot.scalar_count = static_cast<uint8_t>(task.scalar_count);
  slot.strided = task.strided != 0;
  slot.place_args();
  ContinuousTensor *tensors = slot.tensors();
  for (uint32_t i = 0; i < slot.tensor_count; ++i) {
    if ((task.creates >> i & 1) != 0)
      tensors[i] = created_[i];
    else
      std::memcpy(&tensors[i], &task.tensors[i], sizeof tensors[i]);
  }
  std::copy_n(task.scalars, task.scalar_count, slot.scalars());
  if (!slot.strided)
    return;
  for (uint32_t i = 0; i < slot.tensor_count; ++i) {
    if ((task.strided >> i & 1) == 0) {
      slot.views()[i] = TensorView(tensors[i]);
      continue;
    }
    slot.views()[i] = task.tensors[i];
    tensors[i].data = 0;
    std::fill_n(tensors[i].shapes, MAX_TENSOR_DIMS, 0);
  }
}

// The buffer in which these bytes lie; calls refuse(why) when they don't.
template <class Refuse> GraphBuilder::Buffer GraphBuilder::buffer_of(uint64_t begin, uint64_t nbytes, Refuse &&refuse) {
  for (uint32_t i = 0; i < arguments_.size(); ++i)
    if (begin >= arguments_[i].begin && begin <= arguments_[i].end && nbytes <= arguments_[i].end - begin)
      return {arguments_[i].begin, nullptr, arguments_[i].index};
  if (HeapRing *ring = ring_with(begin)) {
    HeapRing::Block *block = ring->find(begin);
    if (block == nullptr || !block->open)
      refuse("belong to a tensor whose scope has ended");
    if (nbytes > block->asked || begin - block->begin > block->asked - nbytes)
      refuse("reach beyond the end of the tensor that was allocated there");
    return {block->begin, block};
  }
  const uint64_t allocation = memory_.find(begin, nbytes);
  if (allocation == 0)
    refuse("are not inside one live allocation of device memory");
  return {allocation};
}

// Checks where a tensor lies, and adds what its task has to wait for.
void GraphBuilder::bind(const Task &task, uint32_t i, TaskSlot &slot) {
  uint64_t begin = 0, nbytes = 0;
  const auto refuse = [&](const char *what) {
    throw DeviceMemoryError(
        "tensor " + std::to_string(i) + " of task " + std::to_string(submitted_) +
        (slot.has_kernel ? " (kernel '" + std::string(request_.kernels[slot.kernel].name) + "' of" : " (a join of") +
        " callable '" + std::string(request_.callable) + "'): " + describe_range(begin, nbytes) + ' ' + what);
  };
  const bool writing = writes(task.tags[i]), tracked = task.tags[i] != TensorArgType::NO_DEP;
  const auto use = [&] {
    const Buffer buffer = buffer_of(begin, nbytes, refuse);
    if (buffer.block != nullptr) {
      buffer.block->users.add(slot.id, [this](TaskId id) { return is_live(id); });
      buffer.block->written |= writing || !tracked;
    }
    used(slot, i, buffer);
    return buffer;
  };
  if ((task.strided >> i & 1) != 0) {
    const Footprints parts(slot.views()[i]);
    begin = parts.begin();
    nbytes = parts.reach();
    if (parts.problem() != nullptr)
      throw CallableError(describe(task) + " with tensor " + std::to_string(i) + ", which has " + parts.problem());
    if (nbytes == 0)
      return;
    const Buffer buffer = use();
    if (tracked)
      parts.each([&](const Footprint &part) { track(buffer, part, writing, slot.id, i); });
    return;
  }
  const ContinuousTensor &tensor = slot.tensors()[i];
  begin = tensor.data;
  nbytes = nbytes_of(tensor);
  if (nbytes == 0)
    return;
  const Buffer buffer = use();
  if (tracked)
    track(buffer, {begin, nbytes}, writing, slot.id, i);
}

// Adds what has to be waited for before these bytes are used, and remembers that `task` uses them.
void GraphBuilder::track(const Buffer &buffer, const Footprint &part, bool writing, TaskId task, uint32_t operand) {
  if (scopes_.back().manual) {
    untracked_ = true;
    return;
  }
  tensor_map_.access(
      buffer.begin, part, writing, task, operand, [this](TaskId id) { return is_live(id); },
      [this](TaskId id) { producers_.push_back(id); });
}

void GraphBuilder::bind_condition(const Task &task, TaskSlot &slot) {
  const uint64_t begin = task.condition.data, nbytes = itemsize(task.condition.type());
  const Buffer buffer = buffer_of(begin, nbytes, [&](const char *what) {
    throw DeviceMemoryError(describe(task) + " with a condition: " + describe_range(begin, nbytes) + ' ' + what);
  });
  if (buffer.block != nullptr) {
    if (!buffer.block->written)
      throw CallableError(describe(task) + " with a condition that nobody writes before");
    buffer.block->users.add(slot.id, [this](TaskId id) { return is_live(id); });
  }
  used(slot, ~0U, buffer);
  slot.spilled().condition = begin;
  slot.condition_nbytes = static_cast<uint8_t>(nbytes);
  track(buffer, {begin, nbytes}, false, slot.id, MAX_TASK_TENSORS);
}

void GraphBuilder::bind_dependencies(const Task &task) {
  for (int32_t i = 0; i < task.dependency_count; ++i) {
    const TaskHandle handle = task.dependencies[i];
    const TaskId id = TaskId::of_bits(handle.id);
    if (!id.exists() || handle.run != run_)
      throw CallableError(describe(task) + " with a dependency on a task of another run");
    if (id.number() >= submitted_)
      throw CallableError(describe(task) + " with a dependency on task " + std::to_string(id.number()) +
                          ", which comes after it: that would be a cycle");
    if (is_live(id))
      producers_.push_back(id);
  }
}

// The address of an element, when nobody else uses it any more.
uint64_t GraphBuilder::find_element(const TensorView &t, const int64_t *index, uint32_t count, DataType type,
                                    bool writing) {
  const char *verb = writing ? "write" : "read";
  if (t.ndims > MAX_TENSOR_DIMS || t.type() != type)
    fail(verb, "an element of type %s, but the tensor is %s", name_of(type), name_of(t.type()));
  if (count != t.ndims)
    fail(verb, "%u indices into a tensor of %u dimensions", count, t.ndims);
  uint64_t address = t.data;
  for (uint32_t i = 0; i < count; ++i) {
    if (index[i] < 0 || index[i] >= t.shapes[i])
      fail(verb, "index %lld in dimension %u, the tensor has %u", static_cast<long long>(index[i]), i, t.shapes[i]);
    address += static_cast<uint64_t>(index[i]) * t.strides[i] * itemsize(type);
  }
  const uint64_t nbytes = itemsize(type);
  const Buffer buffer = buffer_of(address, nbytes, [&](const char *what) {
    throw DeviceMemoryError(std::string(verb) + " of an element: " + describe_range(address, nbytes) + ' ' + what);
  });
  if (buffer.block != nullptr) {
    if (!writing && !buffer.block->written)
      fail(verb, "an element of a tensor that nobody wrote");
    buffer.block->written = true;
  }
  looked();
  producers_.clear();
  tensor_map_.access(
      buffer.begin, {address, nbytes}, writing, TaskId(), MAX_TASK_TENSORS, [this](TaskId id) { return is_live(id); },
      [this](TaskId id) { producers_.push_back(id); });
  if (untracked_) { // any of those might use it
    wait_all();
    untracked_ = false;
  }
  const auto over = [this] {
    return std::none_of(producers_.begin(), producers_.end(), [this](TaskId id) { return is_live(id); });
  };
  if (!over())
    wait(over);
  return address;
}

} // namespace simpler
