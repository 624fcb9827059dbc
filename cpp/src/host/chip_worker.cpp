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
  const std::lock_guard lock(mutex_);
  if (platform_ != nullptr)
    return;
  platform_ = open_platform(options_.platform, options_.runtime, options_.threads, options_.rings);
  staging_ = std::make_unique<HostStaging>(*platform_);
  owner_pid_ = getpid();
}

void ChipWorker::finalize() noexcept {
  const std::lock_guard lock(mutex_);
  if (platform_ == nullptr)
    return;
  if (owner_pid_ != getpid()) {
    // A fork has this worker, but none of its threads: there is nothing here to end, and nobody to wait for.
    for (auto &callable : slots_)
      (void)callable.release();
    (void)staging_.release();
    (void)platform_.release();
    return;
  }
  for (auto &callable : slots_)
    callable.reset();
  aicpu_dlopen_total_ += platform_->aicpu_dlopen_count();
  host_dlopen_total_ += platform_->host_dlopen_count();
  staging_.reset();
  platform_.reset();
}

Platform &ChipWorker::chip() {
  if (platform_ == nullptr)
    throw ChipError("the chip is not open: call init() first");
  if (owner_pid_ != getpid())
    throw ChipError("this ChipWorker was opened in process " + std::to_string(owner_pid_) + ", this is " +
                    std::to_string(getpid()) + ": open it in the process that uses it");
  return *platform_;
}

std::unique_ptr<LoadedCallable> &ChipWorker::slot(int32_t callable_id) {
  if (callable_id < 0 || callable_id >= MAX_CALLABLES)
    throw CallableError("callable_id " + std::to_string(callable_id) + " is no slot: there are slots 0 to " +
                        std::to_string(MAX_CALLABLES - 1));
  return slots_[static_cast<size_t>(callable_id)];
}

void ChipWorker::prepare_callable(int32_t callable_id, const ChipCallable &callable) {
  const std::lock_guard lock(mutex_);
  Platform &platform = chip();
  auto &loaded = slot(callable_id);
  if (loaded != nullptr)
    throw CallableError("slot " + std::to_string(callable_id) + " already holds callable '" +
                        std::string(loaded->callable().name()) + "': unregister it first");
  loaded = platform.load(callable);
}

void ChipWorker::unregister_callable(int32_t callable_id) {
  const std::lock_guard lock(mutex_);
  chip();
  prepared(callable_id);
  slot(callable_id).reset();
}

LoadedCallable &ChipWorker::prepared(int32_t callable_id) {
  const auto &loaded = slot(callable_id);
  if (loaded == nullptr)
    throw CallableError("no callable is prepared in slot " + std::to_string(callable_id));
  return *loaded;
}

void ChipWorker::run_prepared(int32_t callable_id, const TaskArgsView &args, const CallConfig &config,
                              const InterruptCheck &interrupted) {
  const std::lock_guard lock(mutex_);
  Platform &platform = chip();
  LoadedCallable &loaded = prepared(callable_id);
  check_arguments(loaded.callable(), args);
  struct AtEnd {
    HostStaging &staging;
    ~AtEnd() { staging.end(); }
  } at_end{*staging_};
  const TaskArgsView device_args = staging_->bring(args);
  platform.run(loaded, device_args, staging_->ranges(), config, interrupted);
  staging_->take_back(args, loaded.callable().signature());
}

void ChipWorker::run_prepared_from_blob(int32_t callable_id, const void *blob, size_t capacity,
                                        const CallConfig &config, const InterruptCheck &interrupted) {
  TaskArgsView args;
  if (const char *what = read_blob(blob, capacity, args))
    throw CallableError("the argument blob (" + std::to_string(capacity) + " bytes) is damaged: it has " + what);
  run_prepared(callable_id, args, config, interrupted);
}

uint64_t ChipWorker::malloc(uint64_t nbytes) {
  const std::lock_guard lock(mutex_);
  return chip().allocate(nbytes);
}

void ChipWorker::free(uint64_t address) {
  const std::lock_guard lock(mutex_);
  chip().release(address);
}

void ChipWorker::copy_to(uint64_t to, const void *from, uint64_t nbytes) {
  const std::lock_guard lock(mutex_);
  chip().copy_to_device(to, from, nbytes);
}

void ChipWorker::copy_from(void *to, uint64_t from, uint64_t nbytes) {
  const std::lock_guard lock(mutex_);
  chip().copy_to_host(to, from, nbytes);
}

uint64_t ChipWorker::aicpu_dlopen_count() {
  const std::lock_guard lock(mutex_);
  return aicpu_dlopen_total_ + (platform_ != nullptr ? platform_->aicpu_dlopen_count() : 0);
}

uint64_t ChipWorker::host_dlopen_count() {
  const std::lock_guard lock(mutex_);
  return host_dlopen_total_ + (platform_ != nullptr ? platform_->host_dlopen_count() : 0);
}

} // namespace simpler
