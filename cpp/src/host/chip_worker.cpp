#include "simpler/chip_worker.h"

#include "host/host_staging.h"
#include "simpler/errors.h"

#include <unistd.h>

namespace simpler {
namespace {

std::string count_of(int64_t n, const char *what) { return std::to_string(n) + ' ' + what + (n == 1 ? "" : "s"); }

void check_arguments(const ChipCallable &callable, const TaskArgsView &args) {
  const std::string name = "callable '" + std::string(callable.name()) + "'";
  if (const char *what = check_args(args))
    throw CallableError(name + " was called with " + what);
  const auto tensors = static_cast<int32_t>(callable.signature().size());
  if (args.tensor_count != tensors)
    throw CallableError(name + " takes " + count_of(tensors, "tensor") + ", got " + std::to_string(args.tensor_count));
  if (args.scalar_count != callable.scalar_count())
    throw CallableError(name + " takes " + count_of(callable.scalar_count(), "scalar") + ", got " +
                        std::to_string(args.scalar_count));
}

} // namespace

ChipWorker::ChipWorker(ChipWorkerOptions options) : options_(std::move(options)) {
  check_platform(options_.platform, options_.runtime);
  if (options_.device_id < 0)
    throw PlatformError("device_id is " + std::to_string(options_.device_id) + "; devices are counted from 0");
}

ChipWorker::~ChipWorker() { finalize(); }

void ChipWorker::init() {
  const std::unique_lock lock(lifetime_);
  if (platform_ != nullptr)
    return;
  platform_ = open_platform(options_.platform, options_.runtime, options_.threads, options_.rings);
  staging_ = std::make_unique<HostStaging>(*platform_);
  owner_pid_ = getpid();
}

void ChipWorker::finalize() noexcept {
  if (const int owner = owner_pid_; owner != 0 && owner != getpid()) {
    // A fork has this worker, but none of its threads: there is nothing here to end, and nobody to wait for. Locks may
    // be held by threads that are not here.
    for (auto &callable : slots_)
      new std::shared_ptr<LoadedCallable>(std::move(callable));
    (void)staging_.release();
    (void)platform_.release();
    owner_pid_ = 0;
    return;
  }
  const std::unique_lock lock(lifetime_);
  if (platform_ == nullptr)
    return;
  for (auto &callable : slots_)
    callable.reset();
  aicpu_dlopen_total_ += platform_->aicpu_dlopen_count();
  host_dlopen_total_ += platform_->host_dlopen_count();
  const GraphCounts graphs = platform_->graph_counts();
  graphs_total_ = {graphs_total_.built + graphs.built, graphs_total_.replayed + graphs.replayed};
  staging_.reset();
  platform_.reset();
  owner_pid_ = 0;
}

Platform &ChipWorker::chip() const {
  if (platform_ == nullptr)
    throw ChipError("the chip is not open: call init() first");
  if (owner_pid_ != getpid())
    throw ChipError("this ChipWorker was opened in process " + std::to_string(owner_pid_) + ", this is " +
                    std::to_string(getpid()) + ": open it in the process that uses it");
  return *platform_;
}

std::shared_ptr<LoadedCallable> &ChipWorker::slot(int32_t callable_id) {
  if (callable_id < 0 || callable_id >= MAX_CALLABLES)
    throw CallableError("callable_id " + std::to_string(callable_id) + " is no slot: there are slots 0 to " +
                        std::to_string(MAX_CALLABLES - 1));
  return slots_[static_cast<size_t>(callable_id)];
}

void ChipWorker::prepare_callable(int32_t callable_id, const ChipCallable &callable) {
  const std::shared_lock open(lifetime_);
  Platform &platform = chip();
  const std::lock_guard lock(slots_mutex_);
  auto &loaded = slot(callable_id);
  if (loaded != nullptr)
    throw CallableError("slot " + std::to_string(callable_id) + " already holds callable '" +
                        std::string(loaded->callable().name()) + "': unregister it first");
  loaded = platform.load(callable); // nothing is remembered unless it is loaded
}

void ChipWorker::unregister_callable(int32_t callable_id) {
  const std::shared_lock open(lifetime_);
  chip();
  const std::shared_ptr<LoadedCallable> last = prepared(callable_id); // a run that goes on with it keeps it loaded
  const std::lock_guard lock(slots_mutex_);
  slot(callable_id).reset();
}

std::shared_ptr<LoadedCallable> ChipWorker::prepared(int32_t callable_id) {
  const std::lock_guard lock(slots_mutex_);
  const auto &loaded = slot(callable_id);
  if (loaded == nullptr)
    throw CallableError("no callable is prepared in slot " + std::to_string(callable_id));
  return loaded;
}

void ChipWorker::run_prepared(int32_t callable_id, const TaskArgsView &args, const CallConfig &config,
                              const InterruptCheck &interrupted) {
  const std::shared_lock open(lifetime_);
  Platform &platform = chip();
  const std::lock_guard one_at_a_time(run_mutex_);
  const std::shared_ptr<LoadedCallable> loaded = prepared(callable_id);
  check_arguments(loaded->callable(), args);
  struct AtEnd {
    HostStaging &staging;
    ~AtEnd() { staging.end(); }
  } at_end{*staging_};
  const TaskArgsView device_args = staging_->bring(args, loaded->callable().signature());
  platform.run(*loaded, device_args, config, interrupted);
  staging_->take_back(args, loaded->callable().signature());
}

void ChipWorker::run_prepared_from_blob(int32_t callable_id, const void *blob, size_t capacity,
                                        const CallConfig &config, const InterruptCheck &interrupted) {
  TaskArgsView args;
  if (const char *what = read_blob(blob, capacity, args))
    throw CallableError("the argument blob (" + std::to_string(capacity) + " bytes) is damaged: it has " + what);
  run_prepared(callable_id, args, config, interrupted);
}

uint64_t ChipWorker::malloc(uint64_t nbytes) {
  const std::shared_lock open(lifetime_);
  return chip().allocate(nbytes);
}

void ChipWorker::free(uint64_t address) {
  const std::shared_lock open(lifetime_);
  chip().release(address);
}

void ChipWorker::copy_to(uint64_t to, const void *from, uint64_t nbytes) {
  const std::shared_lock open(lifetime_);
  chip().copy_to_device(to, from, nbytes);
}

void ChipWorker::copy_from(void *to, uint64_t from, uint64_t nbytes) {
  const std::shared_lock open(lifetime_);
  chip().copy_to_host(to, from, nbytes);
}

uint64_t ChipWorker::aicpu_dlopen_count() const {
  const std::shared_lock open(lifetime_);
  return aicpu_dlopen_total_ + (platform_ != nullptr ? platform_->aicpu_dlopen_count() : 0);
}

uint64_t ChipWorker::host_dlopen_count() const {
  const std::shared_lock open(lifetime_);
  return host_dlopen_total_ + (platform_ != nullptr ? platform_->host_dlopen_count() : 0);
}

GraphCounts ChipWorker::graph_counts() const {
  const std::shared_lock open(lifetime_);
  const GraphCounts now = platform_ != nullptr ? platform_->graph_counts() : GraphCounts{};
  return {graphs_total_.built + now.built, graphs_total_.replayed + now.replayed};
}

} // namespace simpler
