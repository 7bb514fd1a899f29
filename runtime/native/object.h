/* Values of plans: reference-counted, immutable once made, charged to the budget of the context that made them. */
#ifndef PLANISH_OBJECT_H
#define PLANISH_OBJECT_H

#include "internal.h"

typedef enum planish_object_kind {
  PLANISH_OBJECT_TENSOR,
  PLANISH_OBJECT_STRINGS, /* a tensor of UTF-8 texts, which may hold NULs */
  PLANISH_OBJECT_SEQUENCE,
  PLANISH_OBJECT_MAP,
  PLANISH_OBJECT_ABSENT
} planish_object_kind;

struct planish_object {
  planish_object_kind kind;
  uint32_t references; /* of one thread at a time: not atomic */
  planish_budget *budget;
  int64_t charged; /* bytes */
  int64_t count;   /* elements, texts, items or entries */
  int64_t filled;  /* while it is made: elements or texts that are there already */
  /* tensor, strings */
  planish_dtype dtype;
  int32_t rank;
  const int64_t *shape; /* lies behind the object, as does a tensor's data that is its own */
  void *data;
  int64_t bytes; /* of the data */
  /* strings: text i is bytes [offsets[i], offsets[i + 1]) of `text`, which ends with NUL */
  uint64_t *offsets;
  char *text;
  uint64_t text_used, text_capacity;
  /* sequence; the capacity may be more than `count` */
  planish_object **items;
  int64_t capacity;
  /* map: one-dimensional tensors or strings; values may be a sequence as well */
  planish_object *keys, *values;
  void *view; /* value.c: the arrays that a planish_value of this object points to */
};

/* Why there is no object: PLANISH_OUT_OF_MEMORY as text, with the limit's name in it if it was that. */
const char *planish_no_memory(const planish_budget *budget);

/* All make an object with one reference, or give NULL when memory runs out or a size does not fit into 63 bits. */
/* A tensor whose elements are not initialised (4-bit types: zeros), 64-byte aligned. */
planish_object *planish_tensor_new(planish_budget *budget, planish_dtype dtype, int32_t rank, const int64_t *shape);
/* A tensor over memory of somebody else, which outlives it. */
planish_object *planish_tensor_borrow(planish_budget *budget, planish_dtype dtype, int32_t rank, const int64_t *shape,
                                      const void *data);
/* Strings, to be filled by planish_strings_add in order. */
planish_object *planish_strings_new(planish_budget *budget, int32_t rank, const int64_t *shape);
/* Append texts [from, from + count) of `source`, or one text; false when memory runs out. */
bool planish_strings_copy(planish_object *strings, const planish_object *source, int64_t from, int64_t count);
bool planish_strings_add(planish_object *strings, const char *text, uint64_t length);
/* An empty sequence with room for `capacity` items. */
planish_object *planish_sequence_new(planish_budget *budget, int64_t capacity);
/* Append `item`, of which the sequence takes a reference of its own. */
bool planish_sequence_add(planish_object *sequence, planish_object *item);
/* Of `keys` and `values` the map takes references of its own. */
planish_object *planish_map_new(planish_budget *budget, planish_object *keys, planish_object *values);
planish_object *planish_absent_new(planish_budget *budget);

planish_object *planish_retain(planish_object *object); /* gives `object`; NULL is fine, in both */
void planish_release(planish_object *object);

static inline const char *planish_text_at(const planish_object *strings, int64_t index, uint64_t *length) {
  *length = strings->offsets[index + 1] - strings->offsets[index];
  return strings->text + strings->offsets[index];
}

/* value.c: what an object looks like from outside; its pointers live as long as the object. False: no memory. */
bool planish_object_view(planish_object *object, planish_value *value);

#endif
