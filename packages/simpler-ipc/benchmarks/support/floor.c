/* What the machine itself needs for a round trip between two processes: the least anything built on it can take.
 *
 * Two counters, each alone on 128 bytes: the one side raises `request`, the other raises `reply` to it. Waited for by
 * spinning, or asleep in the kernel. Whoever waits gives up after seconds, so that a dead peer hangs nobody.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct lines {
  _Alignas(128) _Atomic uint32_t request;
  _Alignas(128) _Atomic uint32_t reply;
};

static const uint64_t LOOKS = 1ull << 28;
static const struct timespec PATIENCE = {.tv_sec = 10};

static inline void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb");
#endif
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int spin(_Atomic uint32_t *word, uint32_t wanted) {
  for (uint64_t looks = 0; atomic_load_explicit(word, memory_order_acquire) != wanted; looks++) {
    if (looks == LOOKS) return -1;
    relax();
  }
  return 0;
}

static int sleep_until(_Atomic uint32_t *word, uint32_t wanted) {
  for (;;) {
    uint32_t found = atomic_load_explicit(word, memory_order_acquire);
    if (found == wanted) return 0;
    if (syscall(SYS_futex, word, FUTEX_WAIT, found, &PATIENCE, NULL, 0) != 0 && errno == ETIMEDOUT) return -1;
  }
}

static void publish(_Atomic uint32_t *word, uint32_t value) {
  atomic_store_explicit(word, value, memory_order_release);
}

static void publish_and_wake(_Atomic uint32_t *word, uint32_t value) {
  atomic_store(word, value);
  syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* `trips` round trips: nanoseconds for all of them; 0 if nobody answers. */
uint64_t spin_ping(struct lines *lines, uint32_t trips) {
  uint32_t ticket = atomic_load(&lines->reply);
  uint64_t start = now();
  for (uint32_t trip = 0; trip < trips; trip++) {
    publish(&lines->request, ++ticket);
    if (spin(&lines->reply, ticket) != 0) return 0;
  }
  return now() - start;
}

int spin_pong(struct lines *lines, uint32_t trips) {
  uint32_t ticket = atomic_load(&lines->reply);
  for (uint32_t trip = 0; trip < trips; trip++) {
    if (spin(&lines->request, ++ticket) != 0) return -1;
    publish(&lines->reply, ticket);
  }
  return 0;
}

/* `trips` round trips, each after sleeping for `gap` nanoseconds (none for 0): the nanoseconds of each. */
int futex_ping(struct lines *lines, uint32_t trips, uint32_t gap, uint64_t *taken) {
  struct timespec pause = {.tv_sec = gap / 1000000000u, .tv_nsec = gap % 1000000000u};
  uint32_t ticket = atomic_load(&lines->reply);
  for (uint32_t trip = 0; trip < trips; trip++) {
    if (gap != 0) nanosleep(&pause, NULL);
    uint64_t start = now();
    publish_and_wake(&lines->request, ++ticket);
    if (sleep_until(&lines->reply, ticket) != 0) return -1;
    taken[trip] = now() - start;
  }
  return 0;
}

int futex_pong(struct lines *lines, uint32_t trips) {
  uint32_t ticket = atomic_load(&lines->reply);
  for (uint32_t trip = 0; trip < trips; trip++) {
    if (sleep_until(&lines->request, ++ticket) != 0) return -1;
    publish_and_wake(&lines->reply, ticket);
  }
  return 0;
}
