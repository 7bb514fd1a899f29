/* Host functions that map values to values: LabelEncoder, CategoryMapper, OneHotEncoder, and those on maps. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

/* ---- a dictionary: from numbers or texts to their places ---- */
typedef struct dictionary {
  planish_object *keys;   /* i64, f64 or strings, in one dimension */
  planish_object *values; /* may be NULL; else one more than keys: the last one is the default */
  int64_t *table;         /* places + 1, 0: free */
  uint64_t mask;
} dictionary;

typedef struct key {
  const char *text;
  uint64_t bits; /* the text's length, the integer, or the double's bits */
} key;

static key number_key(double value) {
  key made = {NULL, 0};
  if (isnan(value)) value = (double)NAN;
  if (value == 0) value = 0; /* -0 */
  memcpy(&made.bits, &value, sizeof value);
  return made;
}

/* Element `index` of x as a key of a dictionary of such keys. */
static key key_at(const planish_object *x, int64_t index, const planish_object *keys) {
  key made = {NULL, 0};
  if (x->kind == PLANISH_OBJECT_STRINGS) made.text = planish_text_at(x, index, &made.bits);
  else if (keys->dtype.code == 2) made = number_key(planish_number_at(x, index));
  else made.bits = (uint64_t)planish_int_at(x, index);
  return made;
}

static uint64_t hash_of(key k) {
  uint64_t hash = k.bits;
  for (uint64_t i = 0; k.text && i < k.bits; i++) hash = (hash ^ (unsigned char)k.text[i]) * 0x100000001B3u;
  hash = (hash ^ hash >> 30) * 0xBF58476D1CE4E5B9u;
  return hash ^ hash >> 29;
}

/* The place of a key, or -1. */
static int64_t find(const dictionary *d, key wanted) {
  for (uint64_t at = hash_of(wanted) & d->mask; d->table[at]; at = (at + 1) & d->mask) {
    key other = key_at(d->keys, d->table[at] - 1, d->keys);
    if (other.bits == wanted.bits && (!wanted.text || !memcmp(wanted.text, other.text, (size_t)wanted.bits)))
      return d->table[at] - 1;
  }
  return -1;
}

static void destroy(void *value) {
  dictionary *d = value;
  planish_release(d->keys);
  planish_release(d->values);
  free(d->table);
  free(d);
}

/* Of equal keys the last one counts, as in a Python dictionary. */
static dictionary *make_dictionary(planish_host *host, planish_object *keys, planish_object *values) {
  dictionary *d = calloc(1, sizeof *d);
  uint64_t room = 16;
  while (room < 2 * (uint64_t)keys->count) room *= 2;
  if (d) d->table = calloc((size_t)room, sizeof *d->table);
  if (!d || !d->table) {
    free(d);
    planish_release(keys);
    planish_release(values);
    return planish_host_no_memory(host), NULL;
  }
  *d = (dictionary){keys, values, d->table, room - 1};
  for (int64_t i = 0; i < keys->count; i++) {
    key one = key_at(keys, i, keys);
    uint64_t at = hash_of(one) & d->mask;
    for (; d->table[at]; at = (at + 1) & d->mask) {
      key other = key_at(keys, d->table[at] - 1, keys);
      if (other.bits == one.bits && (!one.text || !memcmp(one.text, other.text, (size_t)one.bits))) break;
    }
    d->table[at] = i + 1;
  }
  return d;
}

/* ---- attributes as objects ---- */
/* `out` [filled...] gets the values of an attribute; numbers are converted. */
static planish_status put_attribute(planish_host *host, const planish_attribute *from, planish_object *out) {
  planish_object *tensor = NULL;
  if (from->kind == PLANISH_ATTRIBUTE_TENSOR && !(tensor = planish_constant_object(host, from->data)))
    return PLANISH_OUT_OF_MEMORY;
  bool texts = tensor ? tensor->kind == PLANISH_OBJECT_STRINGS : from->kind == PLANISH_ATTRIBUTE_STRINGS;
  planish_status status = PLANISH_OK;
  if (texts != (out->kind == PLANISH_OBJECT_STRINGS))
    status = planish_host_fail(host, PLANISH_FAILED, "attribute %s: expected values of another type", from->name);
  int64_t count = tensor ? tensor->count : from->count;
  if (!status && texts && tensor) status = planish_put(host, out, tensor, 0, count);
  for (int64_t i = 0; i < count && !status && !(texts && tensor); i++) {
    uint64_t length;
    if (texts) {
      const char *text = planish_attribute_text(from, (uint32_t)i, &length);
      status = planish_put_text(host, out, text, length);
    } else {
      bool whole = tensor ? tensor->dtype.code != 2 && tensor->dtype.code != 4 : from->kind == PLANISH_ATTRIBUTE_INTS;
      int64_t integer = !whole ? 0 : tensor ? planish_int_at(tensor, i) : planish_attribute_int(from, (uint32_t)i);
      if (whole && planish_is_dtype(out, "i64"))
        ((int64_t *)out->data)[out->filled++] = integer; /* doubles have 53 bits */
      else
        planish_store_number(out, out->filled++,
                             whole    ? (double)integer
                             : tensor ? planish_number_at(tensor, i)
                                      : planish_attribute_float(from, (uint32_t)i));
    }
  }
  planish_release(tensor);
  return status;
}

static int64_t attribute_count(const planish_attribute *from) {
  if (from->kind != PLANISH_ATTRIBUTE_TENSOR) return from->count;
  const planish_constant *constant = from->data;
  return planish_element_count(constant->rank, constant->dims);
}

/* The values of an attribute, and room for `more`, as `dtype`; NULL: as i64, f64 or strings, whichever they are. */
static planish_object *attribute_object(planish_host *host, const planish_attribute *from, const char *dtype,
                                        int64_t more) {
  int64_t count = attribute_count(from) + more;
  if (!dtype) {
    const char *name = from->kind == PLANISH_ATTRIBUTE_TENSOR ? ((const planish_constant *)from->data)->dtype : "";
    bool text = from->kind == PLANISH_ATTRIBUTE_STRINGS || !strcmp(name, "string");
    bool real = from->kind == PLANISH_ATTRIBUTE_FLOATS || name[0] == 'f' || name[0] == 'b';
    dtype = text ? "string" : real ? "f64" : "i64";
  }
  planish_object *made =
      strcmp(dtype, "string") ? planish_host_tensor(host, dtype, 1, &count) : planish_host_strings(host, 1, &count);
  if (!made || !put_attribute(host, from, made)) return made;
  planish_release(made);
  return NULL;
}

/* ---- LabelEncoder ---- */
static dictionary *label_dictionary(planish_host *host, const planish_step *step) {
  dictionary *d = planish_find_kept(host, step);
  if (d) return d;
  const planish_attribute *keys = planish_find_attribute(step, "keys"),
                          *values = planish_find_attribute(step, "values");
  const planish_attribute *otherwise = planish_find_attribute(step, "default");
  const char *dtype = planish_string_attribute(step, "dtype", "i64");
  if (!keys || !values || attribute_count(keys) != attribute_count(values))
    return planish_host_fail(host, PLANISH_FAILED, "expected as many values as keys"), NULL;
  planish_object *from = attribute_object(host, keys, NULL, 0),
                 *to = from ? attribute_object(host, values, dtype, 1) : NULL;
  planish_status status = to ? PLANISH_OK : PLANISH_FAILED;
  if (!status)
    status = otherwise && otherwise->count ? put_attribute(host, otherwise, to) : planish_put_nothing(host, to, 1);
  if (status || to->filled != to->count) {
    if (!status) planish_host_fail(host, PLANISH_FAILED, "expected one default value");
    planish_release(from);
    planish_release(to);
    return NULL;
  }
  d = make_dictionary(host, from, to);
  return d && planish_keep(host, step, d, destroy) ? d : NULL;
}

static bool same_kind(planish_host *host, const planish_object *x, const planish_object *keys) {
  if ((x->kind == PLANISH_OBJECT_STRINGS) == (keys->kind == PLANISH_OBJECT_STRINGS)) return true;
  planish_host_fail(host, PLANISH_FAILED, "operand 0: expected %s like the keys",
                    keys->kind == PLANISH_OBJECT_STRINGS ? "strings" : "numbers");
  return false;
}

PLANISH_HOST_FUNCTION(label_encoder) {
  const planish_object *x = planish_array_operand(host, in, 0);
  dictionary *d = x ? label_dictionary(host, step) : NULL;
  if (!d || !same_kind(host, x, d->keys)) return PLANISH_FAILED;
  out[0] = planish_host_like(host, d->values, x->rank, x->shape);
  planish_status status = out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
  for (int64_t i = 0; i < x->count && !status; i++) {
    int64_t at = find(d, key_at(x, i, d->keys));
    status = planish_put(host, out[0], d->values, at < 0 ? d->keys->count : at, 1);
    if (!status) status = planish_host_tick(host);
  }
  return status;
}

/* ---- dictionaries of one attribute ---- */
static dictionary *attribute_dictionary(planish_host *host, const planish_step *step, const char *name) {
  const planish_attribute *from = planish_find_attribute(step, name);
  if (!from) return planish_host_fail(host, PLANISH_FAILED, "attribute %s: expected integers or strings", name), NULL;
  dictionary *d = planish_find_kept(host, from);
  if (d) return d;
  planish_object *keys = attribute_object(host, from, NULL, 0);
  d = keys ? make_dictionary(host, keys, NULL) : NULL;
  return d && planish_keep(host, from, d, destroy) ? d : NULL;
}

PLANISH_HOST_FUNCTION(category_mapper) {
  const planish_object *x = planish_array_operand(host, in, 0);
  bool to_numbers = x && x->kind == PLANISH_OBJECT_STRINGS;
  dictionary *from = x ? attribute_dictionary(host, step, to_numbers ? "cats_strings" : "cats_int64s") : NULL;
  dictionary *to = from ? attribute_dictionary(host, step, to_numbers ? "cats_int64s" : "cats_strings") : NULL;
  if (!to) return PLANISH_FAILED;
  if (from->keys->count != to->keys->count)
    return planish_host_fail(host, PLANISH_FAILED, "the categories differ in number");
  if (!to_numbers && x->dtype.code != 0) return planish_host_fail(host, PLANISH_FAILED, "operand 0: expected i64");
  int64_t missing = planish_int_attribute(step, "default_int64", -1);
  const char *text = planish_string_attribute(step, "default_string", "_Unused");
  out[0] = planish_host_like(host, to->keys, x->rank, x->shape);
  planish_status status = out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
  for (int64_t i = 0; i < x->count && !status; i++) {
    int64_t at = find(from, key_at(x, i, from->keys));
    if (at >= 0) status = planish_put(host, out[0], to->keys, at, 1);
    else if (!to_numbers) status = planish_put_text(host, out[0], text, strlen(text));
    else ((int64_t *)out[0]->data)[out[0]->filled++] = missing;
    if (!status) status = planish_host_tick(host);
  }
  return status;
}

PLANISH_HOST_FUNCTION(one_hot_encoder) {
  const planish_object *x = planish_array_operand(host, in, 0);
  dictionary *d = x ? attribute_dictionary(host, step, "cats") : NULL;
  int64_t shape[PLANISH_MAX_RANK];
  if (!d || !same_kind(host, x, d->keys)) return PLANISH_FAILED;
  if (x->rank >= PLANISH_MAX_RANK)
    return planish_host_fail(host, PLANISH_FAILED, "rank: expected less than %d", PLANISH_MAX_RANK);
  if (x->rank) memcpy(shape, x->shape, (size_t)x->rank * sizeof *shape);
  shape[x->rank] = d->keys->count;
  out[0] = planish_host_tensor(host, "f32", x->rank + 1, shape);
  if (!out[0]) return PLANISH_OUT_OF_MEMORY;
  memset(out[0]->data, 0, (size_t)out[0]->bytes);
  for (int64_t i = 0; i < x->count; i++) {
    bool real =
        x->kind == PLANISH_OBJECT_TENSOR && (x->dtype.code == 2 || x->dtype.code == 4) && d->keys->dtype.code == 0;
    double value = real ? planish_number_at(x, i) : 0;
    bool whole = !real || (value == floor(value) && fabs(value) < 0x1p63); /* floats with integer categories */
    int64_t at = !whole ? -1 : find(d, real ? (key){NULL, (uint64_t)(int64_t)value} : key_at(x, i, d->keys));
    if (at >= 0) ((float *)out[0]->data)[i * d->keys->count + at] = 1;
    if (at < 0 && !planish_int_attribute(step, "zeros", 1))
      return planish_host_fail(host, PLANISH_FAILED, "element %" PRId64 " is none of the categories", i);
  }
  return PLANISH_OK;
}

/* ---- maps ---- */
/* A map whose values are an array; NULL after having said why. */
static const planish_object *plain_map(planish_host *host, planish_object *const *in) {
  const planish_object *map = planish_map_operand(host, in, 0);
  if (!map || map->values->kind != PLANISH_OBJECT_SEQUENCE) return map;
  planish_host_fail(host, PLANISH_FAILED, "operand 0: expected a map to numbers or strings");
  return NULL;
}

PLANISH_HOST_FUNCTION(dict_vectorizer) {
  const planish_object *map = plain_map(host, in);
  const planish_attribute *vocabulary = planish_find_attribute(step, "vocabulary");
  if (!map || !vocabulary)
    return map ? planish_host_fail(host, PLANISH_FAILED, "attribute vocabulary is missing") : PLANISH_FAILED;
  dictionary *words = attribute_dictionary(host, step, "vocabulary");
  if (!words || !same_kind(host, map->keys, words->keys)) return PLANISH_FAILED;
  dictionary *d = make_dictionary(host, planish_retain(map->keys), NULL); /* of this map */
  int64_t shape[2] = {1, words->keys->count};
  out[0] = d ? planish_host_like(host, map->values, 2, shape) : NULL;
  planish_status status = out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
  for (int64_t i = 0; i < words->keys->count && !status; i++) {
    int64_t at = find(d, key_at(words->keys, i, d->keys));
    status = at < 0 ? planish_put_nothing(host, out[0], 1) : planish_put(host, out[0], map->values, at, 1);
  }
  if (d) destroy(d);
  return status;
}

/* The column of each entry of a map with keys i64: sorted by key; `width` 0: one column for each entry. */
static int64_t *sort_keys(planish_host *host, const planish_object *map) {
  int64_t *order = planish_host_alloc(host, map->count, sizeof *order);
  for (int64_t i = 0; order && i < map->count; i++) {
    int64_t at = i;
    for (; at > 0 && planish_int_at(map->keys, order[at - 1]) > planish_int_at(map->keys, i); at--)
      order[at] = order[at - 1];
    order[at] = i;
    if (!planish_host_tick(host)) continue;
    free(order);
    return NULL;
  }
  return order;
}

static planish_status convert(planish_host *host, const planish_object *from, int64_t index, planish_object *to) {
  if (to->kind == from->kind &&
      (to->kind == PLANISH_OBJECT_STRINGS || !memcmp(&to->dtype, &from->dtype, sizeof to->dtype)))
    return planish_put(host, to, from, index, 1);
  if (to->kind == PLANISH_OBJECT_STRINGS || from->kind == PLANISH_OBJECT_STRINGS)
    return planish_host_fail(host, PLANISH_FAILED,
                             "values: expected those of the type that is asked for; cast them before");
  planish_store_number(to, to->filled++, planish_number_at(from, index));
  return PLANISH_OK;
}

PLANISH_HOST_FUNCTION(cast_map) {
  const planish_object *map = plain_map(host, in);
  const char *dtype = planish_string_attribute(step, "dtype", "f32");
  bool sparse = !strcmp(planish_string_attribute(step, "map_form", "DENSE"), "SPARSE");
  int64_t width = planish_int_attribute(step, "max_map", 1);
  if (!map) return PLANISH_FAILED;
  if (!planish_is_dtype(map->keys, "i64"))
    return planish_host_fail(host, PLANISH_FAILED, "operand 0: expected a map from i64");
  int64_t *order = sort_keys(host, map), shape[2] = {1, sparse ? width : map->count}, next = 0;
  if (!order) return PLANISH_FAILED;
  out[0] = strcmp(dtype, "string") ? planish_host_tensor(host, dtype, 2, shape) : planish_host_strings(host, 2, shape);
  planish_status status = out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
  for (int64_t i = 0; i < shape[1] && !status; i++) {
    bool there = next < map->count && (!sparse || planish_int_at(map->keys, order[next]) == i);
    status = there ? convert(host, map->values, order[next++], out[0]) : planish_put_nothing(host, out[0], 1);
  }
  if (!status && next < map->count)
    status = planish_host_fail(host, PLANISH_INDEX_OUT_OF_RANGE, "keys: expected 0 to %" PRId64, shape[1] - 1);
  free(order);
  return status;
}

PLANISH_HOST_FUNCTION(zip_map) {
  const planish_object *x = planish_tensor_operand(host, in, 0, "f32");
  dictionary *d = x ? attribute_dictionary(host, step, "labels") : NULL;
  if (!d) return PLANISH_FAILED;
  int64_t labels = d->keys->count, rows = x->rank == 2 ? x->shape[0] : 1;
  if (x->rank < 1 || x->rank > 2 || x->shape[x->rank - 1] != labels)
    return planish_host_fail(host, PLANISH_FAILED, "expected [n,%" PRId64 "], as many as labels", labels);
  out[0] = planish_host_sequence(host, rows);
  planish_status status = out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
  for (int64_t r = 0; r < rows && !status; r++) {
    planish_object *values = planish_host_like(host, x, 1, &labels), *map = NULL;
    if (values && !planish_put(host, values, x, r * labels, labels))
      map = planish_map_new(host->budget, d->keys, values);
    if (!map || !planish_sequence_add(out[0], map)) status = planish_host_no_memory(host);
    planish_release(values);
    planish_release(map);
  }
  return status;
}
