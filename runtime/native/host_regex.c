/* RegexFullMatch: follows all states of the automaton that regex.c makes at once. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "host.h"
#include "regex.h"
#include "utf8.h"

typedef struct match {
  const regex *r;
  int *now, *next, *stack; /* states; the stack has room for two of each */
  int n_now, n_next;
  uint32_t *seen, mark; /* of each state, the last step that reached it */
} match;

static bool in_class(const regex *r, const state *s, int32_t code) {
  for (int i = s->x; i < s->y; i++)
    if (code >= r->ranges[i].first && code <= r->ranges[i].last) return !s->negated;
  return s->negated;
}

static bool is_word(int32_t c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
}

/* Follow the empty transitions from state `start` between two characters (-1: there is none) into `next`. */
static void reach(match *m, int start, int32_t before, int32_t after) {
  int depth = 0;
  m->stack[depth++] = start;
  while (depth) {
    int at = m->stack[--depth];
    const state *s = &m->r->states[at];
    if (m->seen[at] == m->mark) continue;
    m->seen[at] = m->mark;
    if (s->code == CLASS || s->code == ACCEPT) m->next[m->n_next++] = at;
    if (s->code == JUMP) m->stack[depth++] = s->x;
    if (s->code == SPLIT) m->stack[depth++] = s->y, m->stack[depth++] = s->x;
    if (s->code == ASSERT) {
      bool edge = is_word(before) != is_word(after);
      if (s->x == BEGIN ? before < 0 : s->x == END ? after < 0 : edge == (s->x == WORD)) m->stack[depth++] = at + 1;
    }
  }
}

static void swap(match *m) {
  int *old = m->now;
  m->now = m->next;
  m->next = old;
  m->n_now = m->n_next;
  m->n_next = 0;
  m->mark++;
}

/* Whether the whole text matches; the caller has set `seen` to zeros. */
static bool matches(match *m, const char *text, uint64_t length) {
  uint32_t size = 0;
  int32_t code = length ? planish_utf8_read(text, length, &size) : -1, before = code;
  m->n_next = 0;
  m->mark++;
  reach(m, 0, -1, code);
  swap(m);
  for (uint64_t at = 0; at < length && m->n_now;) {
    at += size;
    before = code;
    code = at < length ? planish_utf8_read(text + at, length - at, &size) : -1;
    for (int i = 0; i < m->n_now; i++) {
      const state *s = &m->r->states[m->now[i]];
      if (s->code == CLASS && in_class(m->r, s, before)) reach(m, m->now[i] + 1, before, code);
    }
    swap(m);
  }
  for (int i = 0; i < m->n_now; i++)
    if (m->r->states[m->now[i]].code == ACCEPT) return true;
  return false;
}

static planish_status match_all(planish_host *host, const regex *r, const planish_object *x, uint8_t *results) {
  int *memory = planish_host_alloc(host, (int64_t)r->count * 6 + 8, sizeof *memory);
  if (!memory) return PLANISH_OUT_OF_MEMORY;
  match m = {.r = r,
             .now = memory,
             .next = memory + r->count,
             .stack = memory + 2 * r->count,
             .seen = (uint32_t *)(memory + 5 * r->count + 4)};
  planish_status status = PLANISH_OK;
  for (int64_t i = 0; i < x->count && !status; i++) {
    uint64_t length;
    const char *text = planish_text_at(x, i, &length);
    if (m.mark > UINT32_MAX / 2 || length > UINT32_MAX / 4) {
      memset(m.seen, 0, (size_t)r->count * sizeof *m.seen);
      m.mark = 0;
    }
    if (length > UINT32_MAX / 4) status = planish_host_fail(host, PLANISH_FAILED, "a text is too long");
    else results[i] = matches(&m, text, length);
    if (!status) status = planish_look_at_limits(host->context->control, &host->context->message);
  }
  free(memory);
  return status;
}

PLANISH_HOST_FUNCTION(regex_match) {
  const planish_object *x = planish_strings_operand(host, in, 0);
  const planish_attribute *pattern = x ? planish_need_attribute(host, "pattern", PLANISH_ATTRIBUTE_STRINGS) : NULL;
  if (!pattern || !pattern->count) return PLANISH_FAILED;
  regex *r = planish_find_kept(host, step);
  if (!r) {
    const char *problem;
    uint64_t length;
    const char *text = planish_attribute_text(pattern, 0, &length);
    r = planish_regex_compile(text, length, &problem);
    if (!r) return planish_host_fail(host, PLANISH_FAILED, "the pattern has %s", problem);
    if (!planish_keep(host, step, r, planish_regex_destroy)) return PLANISH_OUT_OF_MEMORY;
  }
  out[0] = planish_host_tensor(host, "bool", x->rank, x->shape);
  return out[0] ? match_all(host, r, x, out[0]->data) : PLANISH_OUT_OF_MEMORY;
}
