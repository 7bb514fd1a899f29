/* TfIdfVectorizer: counts how often the n-grams of a pool occur, with gaps of up to max_skip_count. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

typedef struct pool { /* a hash table of n-grams: of words, or of integers */
  const planish_attribute *words;
  int64_t n_grams, width; /* width: of the result */
  struct gram {
    int64_t start, column; /* of its first word in the pool; the result's column */
    int32_t length;
    bool used;
  } *table;
  uint64_t mask;
} pool;

typedef struct item { /* one word of the input or pool */
  const char *text;
  uint64_t length; /* UINT64_MAX: an integer */
  int64_t number;
} item;

static item pool_item(const pool *p, int64_t index) {
  item made = {NULL, UINT64_MAX, 0};
  if (p->words->kind == PLANISH_ATTRIBUTE_STRINGS)
    made.text = planish_attribute_text(p->words, (uint32_t)index, &made.length);
  else made.number = planish_attribute_int(p->words, (uint32_t)index);
  return made;
}

static item input_item(const planish_object *x, int64_t index) {
  item made = {NULL, UINT64_MAX, 0};
  if (x->kind == PLANISH_OBJECT_STRINGS) made.text = planish_text_at(x, index, &made.length);
  else made.number = planish_int_at(x, index);
  return made;
}

static uint64_t mix(uint64_t hash, const item *i) {
  uint64_t value = (uint64_t)i->number;
  if (i->text) {
    value = 0xCBF29CE484222325u; /* FNV-1a */
    for (uint64_t k = 0; k < i->length; k++) value = (value ^ (unsigned char)i->text[k]) * 0x100000001B3u;
  }
  hash = (hash ^ value) * 0x9E3779B97F4A7C15u;
  return hash ^ hash >> 29;
}

static bool same_item(const item *a, const item *b) {
  if (!a->text != !b->text) return false;
  return a->text ? a->length == b->length && !memcmp(a->text, b->text, (size_t)a->length) : a->number == b->number;
}

static void destroy_pool(void *value) {
  pool *p = value;
  free(p->table);
  free(p);
}

/* The gram of `length` words at `start` (every `step`-th) of the input, or of the pool itself (x NULL); or its free place. */
static struct gram *look_up(const pool *p, const planish_object *x, int64_t start, int64_t step, int32_t length) {
  uint64_t hash = (uint64_t)length;
  for (int32_t i = 0; i < length; i++) {
    item one = x ? input_item(x, start + i * step) : pool_item(p, start + i);
    hash = mix(hash, &one);
  }
  for (uint64_t at = hash & p->mask;; at = (at + 1) & p->mask) {
    struct gram *g = &p->table[at];
    bool same = g->used && g->length == length;
    for (int32_t i = 0; same && i < length; i++) {
      item one = x ? input_item(x, start + i * step) : pool_item(p, start + i), other = pool_item(p, g->start + i);
      same = same_item(&one, &other);
    }
    if (!g->used || same) return g;
  }
}

/* Put the n-grams of the pool into the table: section n - 1 has those of n words. */
static planish_status fill(planish_host *host, pool *p, const planish_attribute *counts,
                           const planish_attribute *columns) {
  int64_t id = 0;
  for (uint32_t s = 0; s < counts->count; s++) {
    int64_t start = planish_attribute_int(counts, s),
            end = s + 1 < counts->count ? planish_attribute_int(counts, s + 1) : p->words->count;
    int64_t length = (int64_t)s + 1;
    if (start < 0 || end < start || end > p->words->count || (end - start) % length)
      return planish_host_fail(host, PLANISH_FAILED, "ngram_counts: they do not fit the pool");
    for (int64_t at = start; at < end; at += length, id++) {
      if (id >= columns->count)
        return planish_host_fail(host, PLANISH_FAILED, "ngram_indexes: expected one for each n-gram");
      struct gram *g = look_up(p, NULL, at, 1, (int32_t)length);
      int64_t column = planish_attribute_int(columns, (uint32_t)id);
      if (column < 0 || column >= p->width)
        return planish_host_fail(host, PLANISH_FAILED, "ngram_indexes: a negative number");
      *g = (struct gram){at, column, (int32_t)length, true};
    }
  }
  p->n_grams = id;
  return PLANISH_OK;
}

static pool *get_pool(planish_host *host, const planish_step *step) {
  pool *p = planish_find_kept(host, step);
  if (p) return p;
  const planish_attribute *words = planish_find_attribute(step, "pool"),
                          *counts = planish_need_attribute(host, "ngram_counts", PLANISH_ATTRIBUTE_INTS);
  const planish_attribute *columns =
      counts ? planish_need_attribute(host, "ngram_indexes", PLANISH_ATTRIBUTE_INTS) : NULL;
  if (!columns) return NULL;
  if (!words || (words->kind != PLANISH_ATTRIBUTE_STRINGS && words->kind != PLANISH_ATTRIBUTE_INTS))
    return planish_host_fail(host, PLANISH_FAILED, "attribute pool: expected integers or strings"), NULL;
  p = calloc(1, sizeof *p);
  uint64_t room = 16;
  while (room < 2ull * words->count) room *= 2;
  if (p) p->table = calloc((size_t)room, sizeof *p->table);
  if (!p || !p->table) return free(p), planish_host_no_memory(host), NULL;
  p->words = words;
  p->mask = room - 1;
  for (uint32_t i = 0; i < columns->count; i++)
    if (planish_attribute_int(columns, i) >= p->width) p->width = planish_attribute_int(columns, i) + 1;
  if (fill(host, p, counts, columns)) return destroy_pool(p), NULL;
  return planish_keep(host, step, p, destroy_pool) ? p : NULL;
}

typedef struct plan {
  int64_t least, most, skips;
  int mode; /* 0 TF, 1 IDF, 2 TFIDF */
  const planish_attribute *weights;
} plan;

/* As in ONNX Runtime: single words are counted once, whatever the gap. */
static planish_status count_row(planish_host *host, const pool *p, const plan *how, const planish_object *x,
                                int64_t begin, int64_t end, float *row) {
  for (int64_t step = 1; step <= how->skips + 1; step++)
    for (int64_t at = begin; at < end; at++)
      for (int64_t length = step == 1 || how->least > 1 ? how->least : 2; length <= how->most; length++) {
        if ((length - 1) > (end - 1 - at) / step) break;
        const struct gram *g = look_up(p, x, at, step, (int32_t)length);
        if (g->used) row[g->column]++;
        planish_status status = planish_host_tick(host);
        if (status) return status;
      }
  return PLANISH_OK;
}

/* Weights belong to columns of the result. */
static void weigh(const plan *how, float *row, int64_t width) {
  if (how->mode == 0) return;
  for (int64_t i = 0; i < width; i++) {
    if (how->mode == 1) row[i] = row[i] > 0;
    if (how->weights && i < (int64_t)how->weights->count)
      row[i] *= (float)planish_attribute_float(how->weights, (uint32_t)i);
  }
}

static bool read_plan(planish_host *host, const planish_step *step, plan *how) {
  const char *mode = planish_string_attribute(step, "mode", "");
  *how = (plan){planish_int_attribute(step, "min_gram_length", 1), planish_int_attribute(step, "max_gram_length", 1),
                planish_int_attribute(step, "max_skip_count", 0),
                !strcmp(mode, "TF")      ? 0
                : !strcmp(mode, "IDF")   ? 1
                : !strcmp(mode, "TFIDF") ? 2
                                         : -1,
                planish_find_attribute(step, "weights")};
  if (how->weights && (how->weights->kind != PLANISH_ATTRIBUTE_FLOATS || !how->weights->count)) how->weights = NULL;
  if (how->mode >= 0 && how->least >= 1 && how->most >= how->least && how->most < 1 << 20 && how->skips >= 0)
    return true;
  planish_host_fail(host, PLANISH_FAILED, "expected mode TF, IDF or TFIDF and 1 <= min_gram_length <= max_gram_length");
  return false;
}

PLANISH_HOST_FUNCTION(tfidf) {
  const planish_object *x = planish_array_operand(host, in, 0);
  plan how;
  if (!x || !read_plan(host, step, &how)) return PLANISH_FAILED;
  pool *p = get_pool(host, step);
  if (!p) return PLANISH_FAILED;
  bool words = x->kind == PLANISH_OBJECT_STRINGS,
       integers = !words && (planish_is_dtype(x, "i32") || planish_is_dtype(x, "i64"));
  if (x->rank > 2 || words != (p->words->kind == PLANISH_ATTRIBUTE_STRINGS) || (!words && !integers))
    return planish_host_fail(host, PLANISH_FAILED, "expected [n] or [b,n] of what the pool has");
  int64_t rows = x->rank == 2 ? x->shape[0] : 1, length = x->rank ? x->shape[x->rank - 1] : 1,
          shape[2] = {rows, p->width};
  out[0] = planish_host_tensor(host, "f32", x->rank, x->rank == 2 ? shape : shape + 1);
  if (!out[0]) return PLANISH_OUT_OF_MEMORY;
  if (out[0]->count) memset(out[0]->data, 0, (size_t)out[0]->bytes);
  planish_status status = PLANISH_OK;
  for (int64_t r = 0; r < rows && out[0]->count && !status; r++) {
    float *row = (float *)out[0]->data + r * p->width;
    status = count_row(host, p, &how, x, r * length, (r + 1) * length, row);
    weigh(&how, row, p->width);
  }
  return status;
}
