/* The thread pool. Each worker has a slot of its own; the caller of `run` offers part i in slot i, works on part 0
 * itself, and then on every part that is still on offer: a worker may be asleep, or wait for its core while another
 * process has it. Whoever takes the offer back, by one compare-and-swap, does the part, so each is done once; a worker
 * that comes late finds nothing and waits on. A thread prefers its own part, which keeps its caches warm. Workers help
 * in the same way when their own part is done.
 *
 * Both sides spin for a moment (kernels of one model follow each other within microseconds), then sleep on a futex. The
 * caller that sleeps leaves its core to a worker that lost its own in the middle of a part. Such a wait is a sign that
 * there are fewer cores than threads now: for some multiple of it the caller works alone, so that a process that keeps
 * a core costs little more than that core.
 *
 * One call at a time owns the workers. A call that finds them taken (another context, or a task that runs a nested
 * range) does its parts itself, one after the other: never a deadlock, and no more threads than the pool has.
 *
 * After fork() the child has no workers: a page that the kernel wipes in children tells, and they are started anew.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

#define SPINS 2000         /* pauses: 30 to 100 microseconds */
#define STALL_NS 300000    /* who waits longer, and longer than its own part took, has lost a core */
#define ALONE_FACTOR 4     /* so many stalls long one thread works alone; fewer the more threads that holds up */

typedef struct planish_worker {
  _Alignas(64) atomic_uint offer; /* 1: part `index` waits for somebody to take it; or the crew is ending */
  atomic_uint asleep;
  struct planish_crew *crew;
  int32_t index;
  pthread_t thread;
} planish_worker;

typedef struct planish_crew { /* the state behind a planish_pool made here */
  planish_pool pool;
  bool spin;
  atomic_uint busy;
  int32_t started; /* workers that run: 1 .. started */
  atomic_bool ending;
  _Alignas(64) atomic_uint pending; /* parts offered and not yet finished */
  atomic_uint caller_asleep;
  int32_t offered;                  /* parts 1 .. offered; this and what follows: valid for who took a part */
  void (*part)(void *data, int32_t index);
  void *data;
  int64_t alone_until; /* in nanoseconds; 0: nobody lost a core lately */
  atomic_uint *alive; /* in a page of its own: nonzero, except in the child of a fork */
  pid_t owner;        /* used where the kernel does not wipe pages on fork */
  bool wiped_on_fork;
  planish_worker workers[];
} planish_crew;

static void futex_wait(atomic_uint *word, unsigned value) {
  syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word) { syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }

static void relax(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Wait until `word` is no longer `value`. */
static void await(atomic_uint *word, unsigned value, atomic_uint *asleep, bool spin) {
  for (int i = 0; spin && i < SPINS; i++) {
    if (atomic_load_explicit(word, memory_order_acquire) != value) return;
    relax();
  }
  /* Sequentially consistent: either the other side sees `asleep`, or we see its change of `word`. */
  atomic_store(asleep, 1);
  while (atomic_load(word) == value) futex_wait(word, value);
  atomic_store(asleep, 0);
}

/* Take part `index`, if it is still on offer. Relaxed look first: a failed exchange would take the cache line away. */
static bool take(planish_crew *crew, int32_t index) {
  unsigned on_offer = 1;
  atomic_uint *offer = &crew->workers[index].offer;
  return atomic_load_explicit(offer, memory_order_relaxed) && atomic_compare_exchange_strong(offer, &on_offer, 0);
}

static void *work(void *argument) {
  planish_worker *worker = argument;
  planish_crew *crew = worker->crew;
  for (;;) {
    await(&worker->offer, 0, &worker->asleep, crew->spin);
    if (atomic_load_explicit(&crew->ending, memory_order_acquire)) return NULL;
    if (!take(crew, worker->index)) continue; /* somebody else did it */
    int32_t done = 1, offered = crew->offered;
    crew->part(crew->data, worker->index);
    /* The range is not over while we hold a finished part that is not counted: helping is safe. */
    for (int32_t i = 1; i <= offered; i++) {
      if (!take(crew, i)) continue;
      crew->part(crew->data, i);
      done++;
    }
    if (atomic_fetch_sub(&crew->pending, (unsigned)done) == (unsigned)done && atomic_load(&crew->caller_asleep))
      futex_wake(&crew->pending);
  }
}

static bool start_worker(planish_crew *crew, int32_t index) {
  planish_worker *worker = &crew->workers[index];
  memset(worker, 0, sizeof *worker);
  worker->crew = crew;
  worker->index = index;
  sigset_t all, before; /* signals are the host's business */
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int failure = pthread_create(&worker->thread, NULL, work, worker);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return failure == 0;
}

static bool is_forked(planish_crew *crew) {
  return crew->wiped_on_fork ? atomic_load_explicit(crew->alive, memory_order_relaxed) == 0 : getpid() != crew->owner;
}

static void forget_workers(planish_crew *crew) {
  atomic_store(&crew->busy, 0);
  atomic_store(&crew->pending, 0);
  atomic_store(&crew->caller_asleep, 0);
  atomic_store(crew->alive, 1);
  crew->started = 0;
  crew->owner = getpid();
}

static void offer(planish_worker *worker) {
  atomic_store(&worker->offer, 1);
  if (atomic_load(&worker->asleep)) futex_wake(&worker->offer);
}

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* Whether the caller should do without workers for now. */
static bool is_alone(planish_crew *crew, int64_t time) {
  if (crew->alone_until > time) return true;
  crew->alone_until = 0;
  return false;
}

/* Wait for the workers; `began` is when the caller began its own parts. */
static void finish(planish_crew *crew, int64_t began) {
  unsigned left = atomic_load_explicit(&crew->pending, memory_order_acquire);
  if (!left) return;
  int64_t own_end = now();
  do await(&crew->pending, left, &crew->caller_asleep, crew->spin);
  while ((left = atomic_load_explicit(&crew->pending, memory_order_acquire)));
  int64_t end = now(), stall = end - own_end;
  if (stall > STALL_NS && stall > own_end - began) crew->alone_until = end + stall * ALONE_FACTOR / crew->offered;
}

static void run(planish_pool *pool, void (*part)(void *data, int32_t index), void *data, int32_t parts) {
  planish_crew *crew = pool->state;
  if (is_forked(crew)) forget_workers(crew);
  unsigned idle = 0;
  if (parts <= 1 || !atomic_compare_exchange_strong(&crew->busy, &idle, 1)) {
    for (int32_t i = 0; i < parts; i++) part(data, i);
    return;
  }
  int64_t began = now();
  if (is_alone(crew, began)) {
    atomic_store_explicit(&crew->busy, 0, memory_order_release);
    for (int32_t i = 0; i < parts; i++) part(data, i);
    return;
  }
  while (crew->started < parts - 1 && start_worker(crew, crew->started + 1)) crew->started++;
  int32_t helpers = crew->started < parts - 1 ? crew->started : parts - 1;
  crew->part = part;
  crew->data = data;
  crew->offered = helpers;
  atomic_store(&crew->pending, (unsigned)helpers);
  for (int32_t i = 1; i <= helpers; i++) offer(&crew->workers[i]);
  part(data, 0);
  for (int32_t i = helpers + 1; i < parts; i++) part(data, i); /* threads that could not be started */
  for (int32_t i = 1; i <= helpers; i++) {
    if (!take(crew, i)) continue;
    part(data, i);
    atomic_fetch_sub_explicit(&crew->pending, 1, memory_order_relaxed);
  }
  finish(crew, began);
  atomic_store_explicit(&crew->busy, 0, memory_order_release);
}

void planish_pool_start(planish_pool *pool, int32_t threads) {
  if (pool->run != run) return; /* somebody else's */
  planish_crew *crew = pool->state;
  unsigned idle = 0;
  if (is_forked(crew)) forget_workers(crew);
  if (!atomic_compare_exchange_strong(&crew->busy, &idle, 1)) return;
  while (crew->started < threads - 1 && start_worker(crew, crew->started + 1)) crew->started++;
  atomic_store_explicit(&crew->busy, 0, memory_order_release);
}

static void *shared_page(bool *wiped_on_fork) {
  void *page = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return NULL;
#ifdef MADV_WIPEONFORK
  *wiped_on_fork = madvise(page, (size_t)sysconf(_SC_PAGESIZE), MADV_WIPEONFORK) == 0;
#else
  *wiped_on_fork = false;
#endif
  return page;
}

planish_pool *planish_pool_create_sized(int32_t size, bool spin) {
  if (size < 1) size = 1;
  if (size > PLANISH_MAX_THREADS) size = PLANISH_MAX_THREADS;
  size_t bytes = sizeof(planish_crew) + (size_t)size * sizeof(planish_worker);
  planish_crew *crew = aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!crew) return NULL;
  memset(crew, 0, bytes);
  crew->alive = shared_page(&crew->wiped_on_fork);
  if (!crew->alive) {
    free(crew);
    return NULL;
  }
  atomic_store(crew->alive, 1);
  crew->owner = getpid();
  crew->spin = spin;
  crew->pool = (planish_pool){PLANISH_API_VERSION, size, run, crew};
  return &crew->pool;
}

planish_pool *planish_pool_create(int32_t threads) {
  int32_t cpus = planish_affinity_count(), quota = planish_quota_count("/proc/self/cgroup", "/sys/fs/cgroup");
  int32_t size = quota && quota < cpus ? quota : cpus;
  if (threads > 0 && threads < size) size = threads;
  return planish_pool_create_sized(size, quota == 0); /* spinning would eat the quota */
}

void planish_pool_destroy(planish_pool *pool) {
  if (!pool) return;
  planish_crew *crew = pool->state;
  if (is_forked(crew)) forget_workers(crew);
  atomic_store(&crew->ending, true);
  for (int32_t i = 1; i <= crew->started; i++) offer(&crew->workers[i]);
  for (int32_t i = 1; i <= crew->started; i++) pthread_join(crew->workers[i].thread, NULL);
  munmap(crew->alive, (size_t)sysconf(_SC_PAGESIZE));
  free(crew);
}

static planish_pool *default_pool;
static pthread_mutex_t default_lock = PTHREAD_MUTEX_INITIALIZER;

planish_pool *planish_default_pool(void) {
  pthread_mutex_lock(&default_lock);
  if (!default_pool) default_pool = planish_pool_create(0);
  planish_pool *pool = default_pool;
  pthread_mutex_unlock(&default_lock);
  return pool;
}

/* The library is being unloaded: its threads must be gone before its code is. */
__attribute__((destructor)) static void end_default_pool(void) {
  planish_pool_destroy(default_pool);
  default_pool = NULL;
}
