/* Host functions on strings: StringConcat, Equal, StringSplit, StringNormalizer. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "case_table.h"
#include "host.h"
#include "utf8.h"

/* Operands 0 and 1, strings, broadcast together. */
static bool pair(planish_host *host, planish_object *const *in, const planish_object **x, int32_t *rank,
                 int64_t *shape) {
  x[0] = planish_strings_operand(host, in, 0);
  x[1] = x[0] ? planish_strings_operand(host, in, 1) : NULL;
  return x[1] && planish_broadcast(host, 2, x, rank, shape);
}

PLANISH_HOST_FUNCTION(string_concat) {
  const planish_object *x[2];
  int64_t shape[PLANISH_MAX_RANK];
  int32_t rank;
  (void)step;
  if (!pair(host, in, x, &rank, shape)) return PLANISH_FAILED;
  out[0] = planish_host_strings(host, rank, shape);
  char *joined = NULL;
  uint64_t room = 0;
  planish_status status = out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
  for (int64_t i = 0; !status && i < out[0]->count; i++) {
    uint64_t n, m;
    const char *a = planish_text_at(x[0], planish_broadcast_index(x[0], rank, shape, i), &n);
    const char *b = planish_text_at(x[1], planish_broadcast_index(x[1], rank, shape, i), &m);
    if (n + m + 1 > room) {
      free(joined);
      room = (n + m) * 2 + 64;
      joined = malloc((size_t)room);
      if (!joined) return planish_host_no_memory(host);
    }
    memcpy(joined, a, (size_t)n);
    memcpy(joined + n, b, (size_t)m);
    status = planish_put_text(host, out[0], joined, n + m);
    if (!status) status = planish_host_tick(host);
  }
  free(joined);
  return status;
}

PLANISH_HOST_FUNCTION(string_equal) {
  const planish_object *x[2];
  int64_t shape[PLANISH_MAX_RANK];
  int32_t rank;
  (void)step;
  if (!pair(host, in, x, &rank, shape)) return PLANISH_FAILED;
  out[0] = planish_host_tensor(host, "bool", rank, shape);
  if (!out[0]) return PLANISH_OUT_OF_MEMORY;
  for (int64_t i = 0; i < out[0]->count; i++) {
    uint64_t n, m;
    const char *a = planish_text_at(x[0], planish_broadcast_index(x[0], rank, shape, i), &n);
    const char *b = planish_text_at(x[1], planish_broadcast_index(x[1], rank, shape, i), &m);
    ((uint8_t *)out[0]->data)[i] = n == m && !memcmp(a, b, (size_t)n);
    planish_status status = planish_host_tick(host);
    if (status) return status;
  }
  return PLANISH_OK;
}

/* ---- split ---- */
typedef struct splitter {
  const char *delimiter; /* empty: white space */
  uint64_t delimiter_length;
  int64_t most; /* splits; -1: no limit */
  const char *at;
  uint64_t left;
  int64_t done; /* splits */
  bool over;
} splitter;

static void skip_space(splitter *s) {
  uint32_t length;
  while (s->left && planish_is_space(planish_utf8_read(s->at, s->left, &length))) s->at += length, s->left -= length;
}

static void take(splitter *s, uint64_t bytes) { s->at += bytes, s->left -= bytes; }

/* The next part as Python's str.split gives it; false: there is none. */
static bool next_part(splitter *s, const char **part, uint64_t *length) {
  bool last = s->most >= 0 && s->done >= s->most;
  if (!s->delimiter_length) skip_space(s);
  if (s->over || (!s->delimiter_length && !s->left)) return false;
  *part = s->at;
  *length = s->left;
  if (last) return s->over = true;
  if (!s->delimiter_length) {
    uint32_t one;
    uint64_t bytes = 0;
    while (bytes < s->left && !planish_is_space(planish_utf8_read(s->at + bytes, s->left - bytes, &one))) bytes += one;
    *length = bytes;
    take(s, bytes);
  } else {
    const char *found = memmem(s->at, (size_t)s->left, s->delimiter, (size_t)s->delimiter_length);
    if (!found) return s->over = true;
    *length = (uint64_t)(found - s->at);
    take(s, *length + s->delimiter_length);
  }
  s->done++;
  return true;
}

static splitter split_text(const planish_step *step, const planish_object *x, int64_t index) {
  const planish_attribute *delimiter = planish_find_attribute(step, "delimiter");
  splitter s = {.delimiter = "", .most = planish_int_attribute(step, "maxsplit", -1)};
  if (delimiter && delimiter->kind == PLANISH_ATTRIBUTE_STRINGS && delimiter->count)
    s.delimiter = planish_attribute_text(delimiter, 0, &s.delimiter_length);
  s.at = planish_text_at(x, index, &s.left);
  return s;
}

PLANISH_HOST_FUNCTION(string_split) {
  const planish_object *x = planish_strings_operand(host, in, 0);
  int64_t shape[PLANISH_MAX_RANK], most = 0;
  const char *part;
  uint64_t length;
  if (!x) return PLANISH_FAILED;
  if (x->rank >= PLANISH_MAX_RANK)
    return planish_host_fail(host, PLANISH_FAILED, "rank: expected less than %d", PLANISH_MAX_RANK);
  planish_object *counts = planish_host_tensor(host, "i64", x->rank, x->shape);
  if (!counts) return PLANISH_OUT_OF_MEMORY;
  int64_t *numbers = counts->data;
  for (int64_t i = 0; i < x->count; i++) {
    splitter s = split_text(step, x, i);
    for (numbers[i] = 0; next_part(&s, &part, &length);) numbers[i]++;
    if (numbers[i] > most) most = numbers[i];
  }
  if (x->rank) memcpy(shape, x->shape, (size_t)x->rank * sizeof *shape);
  shape[x->rank] = most;
  out[0] = planish_host_strings(host, x->rank + 1, shape);
  planish_status status = out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
  for (int64_t i = 0; i < x->count && !status; i++) {
    splitter s = split_text(step, x, i);
    while (!status && next_part(&s, &part, &length)) status = planish_put_text(host, out[0], part, length);
    if (!status) status = planish_put_nothing(host, out[0], most - numbers[i]);
  }
  if (step->n_out > 1) out[1] = counts;
  else planish_release(counts);
  return status;
}

/* ---- case ---- */
static int32_t move_case(const planish_case_range *ranges, size_t count, int32_t code) {
  size_t low = 0, high = count;
  while (low < high) { /* the first range that does not end before the code point */
    size_t middle = (low + high) / 2;
    if (ranges[middle].last < code) low = middle + 1;
    else high = middle;
  }
  bool inside = low < count && code >= ranges[low].first && (code - ranges[low].first) % ranges[low].every == 0;
  return inside ? code + ranges[low].by : code;
}

static int32_t change_case(int32_t code, char how) {
  if (how == 'L' && code < 128) return code >= 'A' && code <= 'Z' ? code + 32 : code;
  if (how == 'U' && code < 128) return code >= 'a' && code <= 'z' ? code - 32 : code;
  if (how == 'L') return move_case(LOWER_RANGES, sizeof LOWER_RANGES / sizeof *LOWER_RANGES, code);
  if (how == 'U') return move_case(UPPER_RANGES, sizeof UPPER_RANGES / sizeof *UPPER_RANGES, code);
  return code;
}

/* `text` in another case, in memory of the caller's of 4 bytes for each byte; gives its length. */
static uint64_t recase(const char *text, uint64_t length, char how, char *to) {
  uint64_t used = 0;
  uint32_t size;
  for (uint64_t at = 0; at < length; at += size)
    used += planish_utf8_write(change_case(planish_utf8_read(text + at, length - at, &size), how), to + used);
  return used;
}

/* Whether two texts are equal, in lower case if `fold`. */
static bool same_text(const char *a, uint64_t n, const char *b, uint64_t m, bool fold) {
  if (!fold) return n == m && !memcmp(a, b, (size_t)n);
  while (n && m) {
    uint32_t i, k;
    if (change_case(planish_utf8_read(a, n, &i), 'L') != change_case(planish_utf8_read(b, m, &k), 'L')) return false;
    a += i, n -= i, b += k, m -= k;
  }
  return !n && !m;
}

static bool is_stopword(const planish_attribute *stopwords, const char *text, uint64_t length, bool fold) {
  for (uint32_t i = 0; stopwords && i < stopwords->count; i++) {
    uint64_t size;
    const char *word = planish_attribute_text(stopwords, i, &size);
    if (same_text(word, size, text, length, fold)) return true;
  }
  return false;
}

static planish_status normalize(planish_host *host, const planish_object *x, const bool *keep, char how,
                                planish_object *out) {
  for (int64_t i = 0; i < x->count; i++) {
    uint64_t length;
    const char *text = planish_text_at(x, i, &length);
    if (!keep[i]) continue;
    char *room = length < INT64_MAX / 8 ? malloc((size_t)length * 4 + 1) : NULL;
    if (!room) return planish_host_no_memory(host);
    planish_status status = planish_put_text(host, out, room, recase(text, length, how, room));
    free(room);
    if (status) return status;
  }
  return out->filled < out->count ? planish_put_nothing(host, out, 1)
                                  : PLANISH_OK; /* nothing is left: one empty text */
}

PLANISH_HOST_FUNCTION(string_normalizer) {
  const planish_object *x = planish_strings_operand(host, in, 0);
  const planish_attribute *stopwords = planish_find_attribute(step, "stopwords");
  const char *how = planish_string_attribute(step, "case", "NONE");
  bool fold = !planish_int_attribute(step, "case_sensitive", 0);
  int64_t kept = 0;
  if (!x) return PLANISH_FAILED;
  if (x->rank != 1 && !(x->rank == 2 && x->shape[0] == 1))
    return planish_host_fail(host, PLANISH_FAILED, "expected strings of shape [n] or [1,n]");
  if (strcmp(how, "NONE") && strcmp(how, "LOWER") && strcmp(how, "UPPER"))
    return planish_host_fail(host, PLANISH_FAILED, "case: expected NONE, LOWER or UPPER, got %.20s", how);
  bool *keep = planish_host_alloc(host, x->count, sizeof *keep);
  if (!keep) return PLANISH_OUT_OF_MEMORY;
  for (int64_t i = 0; i < x->count; i++) {
    uint64_t length;
    const char *text = planish_text_at(x, i, &length);
    kept += keep[i] = !is_stopword(stopwords, text, length, fold);
  }
  int64_t shape[2] = {1, kept ? kept : 1};
  out[0] = planish_host_strings(host, x->rank, x->rank == 2 ? shape : shape + 1);
  planish_status status = out[0] ? normalize(host, x, keep, how[0], out[0]) : PLANISH_OUT_OF_MEMORY;
  free(keep);
  return status;
}
