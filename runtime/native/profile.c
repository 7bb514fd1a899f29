/* Time per kernel call, for artifacts that were built for profiling: generated code calls planish_profile between its
 * calls. In all others nothing here ever runs. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "internal.h"

static int64_t now_ns(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* Room for mark number `mark`; false when memory ran out: then the mark is dropped. */
static bool make_room(planish_profile_state *profile, int32_t mark) {
  if (mark <= profile->capacity) return true;
  int32_t capacity = mark < 32 ? 64 : mark * 2;
  planish_mark *marks = realloc(profile->marks, (size_t)capacity * sizeof *marks);
  if (!marks) return false;
  memset(marks + profile->capacity, 0, (size_t)(capacity - profile->capacity) * sizeof *marks);
  profile->marks = marks;
  profile->capacity = capacity;
  return true;
}

void planish_profile(planish_env *env, int32_t mark) {
  planish_profile_state *profile = &((planish_context *)env)->profile;
  if (mark <= 0) { /* a run begins */
    if (profile->marks) memset(profile->marks, 0, (size_t)profile->capacity * sizeof *profile->marks);
    profile->count = 0;
    profile->last = now_ns();
    return;
  }
  int64_t now = now_ns();
  if (make_room(profile, mark)) {
    profile->marks[mark - 1].nanoseconds += now - profile->last;
    profile->marks[mark - 1].count++;
    if (mark > profile->count) profile->count = mark;
  }
  profile->last = now;
}

int32_t planish_context_profile(const planish_context *context, const planish_mark **marks) {
  *marks = context->profile.marks;
  return context->profile.count;
}
