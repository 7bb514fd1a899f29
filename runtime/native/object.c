/* Reference-counted values of plans. */
#define _GNU_SOURCE
#include "object.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT 64

const char *planish_no_memory(const planish_budget *budget) {
  return budget && budget->limit ? "out of memory, within the limit of this context" : "out of memory";
}

/* An object with `rank` dimensions and `data` aligned bytes behind it. */
static planish_object *make(planish_budget *budget, planish_object_kind kind, int32_t rank, const int64_t *shape,
                            int64_t data) {
  if (rank < 0 || rank > PLANISH_MAX_RANK || data < 0 || data > INT64_MAX - 4096) return NULL;
  size_t head = (sizeof(planish_object) + (size_t)rank * sizeof(int64_t) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  int64_t total = (int64_t)head + (data + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (!planish_charge(budget, total)) return NULL;
  void *memory = NULL;
  if (posix_memalign(&memory, ALIGNMENT, (size_t)total)) {
    planish_charge(budget, -total);
    return NULL;
  }
  planish_object *object = memory;
  memset(object, 0, sizeof *object);
  object->kind = kind;
  object->references = 1;
  object->budget = budget;
  object->charged = total;
  object->rank = rank;
  int64_t *dims = (int64_t *)(object + 1);
  if (rank) memcpy(dims, shape, (size_t)rank * sizeof *dims);
  object->shape = dims;
  object->data = (uint8_t *)memory + head;
  return object;
}

planish_object *planish_tensor_new(planish_budget *budget, planish_dtype dtype, int32_t rank, const int64_t *shape) {
  int64_t bytes = rank > PLANISH_MAX_RANK ? -1 : planish_tensor_bytes(dtype, rank, shape);
  planish_object *object = make(budget, PLANISH_OBJECT_TENSOR, rank, shape, bytes);
  if (!object) return NULL;
  object->dtype = dtype;
  object->bytes = bytes;
  object->count = planish_element_count(rank, shape);
  if (dtype.bits < 8) memset(object->data, 0, (size_t)bytes);
  return object;
}

planish_object *planish_tensor_borrow(planish_budget *budget, planish_dtype dtype, int32_t rank, const int64_t *shape,
                                      const void *data) {
  int64_t bytes = rank > PLANISH_MAX_RANK ? -1 : planish_tensor_bytes(dtype, rank, shape);
  planish_object *object = bytes < 0 ? NULL : make(budget, PLANISH_OBJECT_TENSOR, rank, shape, 0);
  if (!object) return NULL;
  object->dtype = dtype;
  object->bytes = bytes;
  object->count = object->filled = planish_element_count(rank, shape);
  object->data = (void *)(uintptr_t)data;
  return object;
}

planish_object *planish_strings_new(planish_budget *budget, int32_t rank, const int64_t *shape) {
  int64_t count = rank > PLANISH_MAX_RANK ? -1 : planish_element_count(rank, shape);
  if (count < 0 || count > INT64_MAX / 16) return NULL;
  planish_object *object = make(budget, PLANISH_OBJECT_STRINGS, rank, shape, (count + 1) * (int64_t)sizeof(uint64_t));
  if (!object) return NULL;
  object->count = count;
  object->offsets = object->data;
  object->data = NULL;
  object->offsets[0] = 0;
  return object;
}

/* Room for `more` bytes of text and the NUL behind them. */
static bool make_room(planish_object *strings, uint64_t more) {
  uint64_t wanted;
  if (__builtin_add_overflow(strings->text_used, more, &wanted) || wanted > INT64_MAX / 4) return false;
  if (strings->text && wanted < strings->text_capacity) return true;
  uint64_t capacity = strings->filled ? wanted + wanted / 2 + 16 : wanted + 1;
  int64_t growth = (int64_t)(capacity - strings->text_capacity);
  if (!planish_charge(strings->budget, growth)) return false;
  char *text = realloc(strings->text, (size_t)capacity);
  if (!text) {
    planish_charge(strings->budget, -growth);
    return false;
  }
  strings->charged += growth;
  strings->text = text;
  strings->text_capacity = capacity;
  return true;
}

bool planish_strings_add(planish_object *strings, const char *text, uint64_t length) {
  if (strings->filled >= strings->count || !make_room(strings, length)) return false;
  if (length) memcpy(strings->text + strings->text_used, text, (size_t)length);
  strings->text_used += length;
  strings->text[strings->text_used] = 0;
  strings->offsets[++strings->filled] = strings->text_used;
  return true;
}

bool planish_strings_copy(planish_object *strings, const planish_object *source, int64_t from, int64_t count) {
  if (count > strings->count - strings->filled) return false;
  if (count <= 0) return count == 0;
  uint64_t begin = source->offsets[from], length = source->offsets[from + count] - begin;
  if (!make_room(strings, length)) return false;
  if (length) memcpy(strings->text + strings->text_used, source->text + begin, (size_t)length);
  for (int64_t i = 1; i <= count; i++)
    strings->offsets[strings->filled + i] = strings->text_used + source->offsets[from + i] - begin;
  strings->filled += count;
  strings->text_used += length;
  strings->text[strings->text_used] = 0;
  return true;
}

static bool grow(planish_object *sequence, int64_t capacity) {
  if (capacity <= sequence->capacity) return true;
  if (capacity > INT64_MAX / 16) return false;
  int64_t growth = (capacity - sequence->capacity) * (int64_t)sizeof(planish_object *);
  if (!planish_charge(sequence->budget, growth)) return false;
  planish_object **items = realloc(sequence->items, (size_t)capacity * sizeof *items);
  if (!items) {
    planish_charge(sequence->budget, -growth);
    return false;
  }
  sequence->charged += growth;
  sequence->items = items;
  sequence->capacity = capacity;
  return true;
}

planish_object *planish_sequence_new(planish_budget *budget, int64_t capacity) {
  planish_object *object = make(budget, PLANISH_OBJECT_SEQUENCE, 0, NULL, 0);
  if (object && !grow(object, capacity)) {
    planish_release(object);
    return NULL;
  }
  return object;
}

bool planish_sequence_add(planish_object *sequence, planish_object *item) {
  if (sequence->count == sequence->capacity && !grow(sequence, sequence->count * 2 + 4)) return false;
  sequence->items[sequence->count++] = planish_retain(item);
  return true;
}

planish_object *planish_map_new(planish_budget *budget, planish_object *keys, planish_object *values) {
  planish_object *object = make(budget, PLANISH_OBJECT_MAP, 0, NULL, 0);
  if (!object) return NULL;
  object->count = keys->count;
  object->keys = planish_retain(keys);
  object->values = planish_retain(values);
  return object;
}

planish_object *planish_absent_new(planish_budget *budget) { return make(budget, PLANISH_OBJECT_ABSENT, 0, NULL, 0); }

planish_object *planish_retain(planish_object *object) {
  if (object) object->references++;
  return object;
}

void planish_release(planish_object *object) {
  if (!object || --object->references) return;
  for (int64_t i = 0; object->items && i < object->count; i++) planish_release(object->items[i]);
  planish_release(object->keys);
  planish_release(object->values);
  planish_charge(object->budget, -object->charged);
  free(object->items);
  free(object->text);
  free(object->view);
  free(object);
}
