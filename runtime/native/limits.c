/* What may end a run early: time, memory, the caller. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <time.h>

#include "internal.h"

#define POLL_NS 20000000 /* between two questions to the caller */

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void arm(planish_control *control) {
  atomic_store(&control->armed, control->deadline || control->poll);
  if (atomic_load(&control->cancelled)) atomic_store(&control->armed, true); /* in this order: planish_context_cancel */
}

void planish_begin_limits(planish_control *control) {
  bool timed = control->seconds > 0;
  int64_t now = timed || control->poll ? now_ns() : 0;
  double most = 9.2e9; /* seconds that fit into 63 bits of nanoseconds */
  control->deadline = timed && control->seconds < most / 2 ? now + (int64_t)(control->seconds * 1e9) : 0;
  control->next_poll = now + POLL_NS;
  arm(control);
}

void planish_end_limits(planish_control *control) {
  control->deadline = 0;
  atomic_store(&control->cancelled, 0);
  arm(control);
}

planish_status planish_look_at_limits(planish_control *control, planish_message *message) {
  if (!atomic_load_explicit(&control->armed, memory_order_acquire)) return PLANISH_OK;
  if (atomic_load(&control->cancelled)) return planish_say(message, PLANISH_CANCELLED, "the run was cancelled");
  if (!control->deadline && !control->poll) return PLANISH_OK;
  int64_t now = now_ns();
  if (control->deadline && now >= control->deadline)
    return planish_say(message, PLANISH_CANCELLED, "the run took longer than the %g seconds that it may take",
                       control->seconds);
  if (control->poll && now >= control->next_poll) {
    control->next_poll = now + POLL_NS;
    if (control->poll(control->poll_data)) return planish_say(message, PLANISH_CANCELLED, "the run was cancelled");
  }
  return PLANISH_OK;
}

bool planish_charge(planish_budget *budget, int64_t bytes) {
  int64_t used;
  if (!budget) return true;
  if (__builtin_add_overflow(budget->used, bytes, &used)) return false;
  if (bytes > 0 && budget->limit && used > budget->limit) return false;
  budget->used = used;
  return true;
}

void planish_context_cancel(planish_context *context) {
  atomic_store(&context->own_control.cancelled, 1);
  atomic_store(&context->own_control.armed, true);
}

void planish_context_set_poll(planish_context *context, int32_t (*poll)(void *data), void *data) {
  context->own_control.poll = poll;
  context->own_control.poll_data = data;
}
