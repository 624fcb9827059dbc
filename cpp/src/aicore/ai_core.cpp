#include "aicore/ai_core.h"

#include <algorithm>
#include <cstdio>
#include <exception>

namespace simpler {
namespace {

constexpr size_t ALIGNMENT = 64;
constexpr size_t SMALLEST_CHUNK = 1 << 20; // where memory is unlimited

size_t round_up(size_t n) { return (n + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

} // namespace

std::string failure_text(const char *where, const char *format, va_list values) {
  va_list again;
  va_copy(again, values);
  const int length = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  std::string text(length > 0 ? static_cast<size_t>(length) : 0, '\0');
  std::vsnprintf(text.data(), text.size() + 1, format, values);
  return where != nullptr ? std::string(where) + ": " + text : text;
}

const Core::Services AiCore::SERVICES = {
    .alloc_local = [](Core &core, size_t nbytes) { return static_cast<AiCore &>(core).allocate(nbytes); },
    .free_local = [](Core &core, void *p) noexcept { static_cast<AiCore &>(core).free(p); },
    .fail = [](Core &, const char *where, const char *format,
               va_list values) { throw KernelFailure{failure_text(where, format, values)}; },
};

AiCore::AiCore(uint32_t id, CoreType core_type, uint64_t memory_nbytes)
    : Core{.core_id = id, .block_idx = 0, .block_num = 1, .type = core_type, .services = &SERVICES},
      limit_(memory_nbytes) {}

std::unique_ptr<std::string> AiCore::run(KernelFunction kernel, const TaskArgsView &args) {
  std::string failure;
  try {
    kernel(*this, args);
    if (misuse_ == nullptr) {
      reset();
      return nullptr;
    }
    failure = misuse_;
  } catch (const KernelFailure &e) {
    failure = e.message;
  } catch (const std::exception &e) {
    failure = std::string("C++ exception: ") + e.what();
  } catch (...) {
    failure = "C++ exception of an unknown type";
  }
  reset();
  return std::make_unique<std::string>(std::move(failure));
}

void *AiCore::allocate(size_t nbytes) {
  const size_t need = round_up(std::max<size_t>(nbytes, 1));
  size_t index = blocks_.empty() ? 0 : blocks_.back().chunk;
  size_t used = blocks_.empty() ? 0 : blocks_.back().end;
  if (limit_ != 0 && (need < nbytes || need > limit_ - used))
    fail(nullptr, "local memory of %s core %u is exhausted: %zu bytes needed, %zu of %llu are in use", name_of(type),
         core_id, nbytes, used, static_cast<unsigned long long>(limit_));
  Chunk &chunk = chunk_for(need, index, used);
  std::byte *begin = chunk.begin + used;
  blocks_.push_back({begin, need, index, used + need});
  return begin;
}

// The chunk to take `nbytes` from, starting the search at chunk `index`, of which `used` bytes are taken.
AiCore::Chunk &AiCore::chunk_for(size_t nbytes, size_t &index, size_t &used) {
  for (; index < chunks_.size(); ++index, used = 0)
    if (nbytes <= chunks_[index].nbytes - used)
      return chunks_[index];
  used = 0;
  const size_t size = limit_ != 0 ? static_cast<size_t>(limit_) : std::max(nbytes, SMALLEST_CHUNK);
  std::unique_ptr<std::byte[]> owner(new std::byte[size + ALIGNMENT]);
  auto *begin = reinterpret_cast<std::byte *>(round_up(reinterpret_cast<size_t>(owner.get())));
  return chunks_.emplace_back(Chunk{std::move(owner), begin, size});
}

void AiCore::free(void *p) noexcept {
  if (p == nullptr)
    return;
  if (!blocks_.empty() && blocks_.back().begin == p)
    blocks_.pop_back();
  else
    misuse_ = "free_local of a block that is not the last one allocated";
}

void AiCore::reset() {
  blocks_.clear();
  misuse_ = nullptr;
}

} // namespace simpler
