/* What host functions (host_*.c) and the walker of plans share. */
#ifndef PLANISH_HOST_H
#define PLANISH_HOST_H

#include "object.h"

typedef struct planish_kept { /* something that is kept from run to run, by the address that it belongs to */
  const void *key;
  void *value;
  void (*destroy)(void *value);
} planish_kept;

struct planish_host {
  planish_context *context;
  planish_budget *budget;
  const planish_step *step; /* that runs now */
  planish_kept *kept;       /* open addressing; `kept_room` is a power of two */
  uint32_t kept_count, kept_room;
  int32_t depth; /* of plans in plans */
  uint32_t ticks;
  uint64_t draws; /* host_random.c: random operations without a seed so far */
};

/* The definition of a host function; codegen/link.py finds by it which file has which. docs/HOST.md lists them. */
#define PLANISH_HOST_FUNCTION(NAME)                                                                              \
  int32_t planish_host_##NAME(planish_host *host, const planish_step *step, planish_object *const *in,           \
                              planish_object **out);                                                             \
  int32_t planish_host_##NAME(planish_host *host, const planish_step *step, planish_object *const *in,           \
                              planish_object **out)

/* ---- failing: all give the status, after a message that names the node of the step ---- */
planish_status planish_host_fail(planish_host *host, planish_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
planish_status planish_host_no_memory(planish_host *host);
/* To be called in long loops: now and then it looks whether the run may go on. */
planish_status planish_host_tick(planish_host *host);

/* ---- making; NULL after having said why ---- */
planish_object *planish_host_tensor(planish_host *host, const char *dtype, int32_t rank, const int64_t *shape);
planish_object *planish_host_strings(planish_host *host, int32_t rank, const int64_t *shape);
/* A tensor or strings like `x` in another shape. */
planish_object *planish_host_like(planish_host *host, const planish_object *x, int32_t rank, const int64_t *shape);
planish_object *planish_host_sequence(planish_host *host, int64_t capacity);
planish_object *planish_host_i64(planish_host *host, int64_t value); /* a scalar */
planish_object *planish_host_bool(planish_host *host, bool value);
/* `count` times `size` zeroed bytes from malloc, within the limit (but not charged). */
void *planish_host_alloc(planish_host *host, int64_t count, size_t size);

/* Append elements [from, from + count) of `x` to `out`, which planish_host_like made; 0 or a status. */
planish_status planish_put(planish_host *host, planish_object *out, const planish_object *x, int64_t from,
                           int64_t count);
/* Append `count` zeros or empty texts. */
planish_status planish_put_nothing(planish_host *host, planish_object *out, int64_t count);
planish_status planish_put_text(planish_host *host, planish_object *out, const char *text, uint64_t length);

/* ---- operands ---- */
/* Operand `index`, which must be there: a tensor or strings, whatever else the name says; NULL after having said why. */
const planish_object *planish_array_operand(planish_host *host, planish_object *const *in, uint32_t index);
const planish_object *planish_tensor_operand(planish_host *host, planish_object *const *in, uint32_t index,
                                             const char *dtype); /* NULL: any */
const planish_object *planish_strings_operand(planish_host *host, planish_object *const *in, uint32_t index);
const planish_object *planish_sequence_operand(planish_host *host, planish_object *const *in, uint32_t index);
const planish_object *planish_map_operand(planish_host *host, planish_object *const *in, uint32_t index);
static inline bool planish_is_absent(const planish_object *object) {
  return !object || object->kind == PLANISH_OBJECT_ABSENT;
}
static inline const planish_object *planish_maybe(const planish_step *step, planish_object *const *in, uint32_t index) {
  return index < step->n_in && !planish_is_absent(in[index]) ? in[index] : NULL;
}
bool planish_is_dtype(const planish_object *object, const char *dtype);
/* Whether operand `index` belongs to nobody else and is not needed afterwards: a function may change it. */
bool planish_may_reuse(const planish_step *step, planish_object *const *in, uint32_t index);

/* The integers of operand `index` (i32 or i64, any shape): from malloc, *count of them; NULL after having said why. */
int64_t *planish_integers(planish_host *host, planish_object *const *in, uint32_t index, int64_t *count);
/* The one integer of operand `index`; false after having said why. */
bool planish_integer(planish_host *host, planish_object *const *in, uint32_t index, int64_t *value);
/* Element `index` of a tensor of integers or bool. */
int64_t planish_int_at(const planish_object *tensor, int64_t index);
/* Element `index` of a tensor of numbers as a double. */
double planish_number_at(const planish_object *tensor, int64_t index);
/* Store a number as an element of the tensor's type: floats rounded to nearest, integers cut, bool != 0. */
void planish_store_number(planish_object *tensor, int64_t index, double value);
/* Store the low bits of an integer as an element, of a type of any width up to 64 bits. */
void planish_store_bits(planish_object *tensor, int64_t index, uint64_t value);
/* Elements are equal or ordered as NumPy sorts them (NaN last, equal to each other): <0, 0, >0. */
int planish_compare_elements(const planish_object *x, int64_t a, int64_t b);
/* `axis` as a number in [0, rank), or -1 after having said why. */
int32_t planish_axis(planish_host *host, int64_t axis, int32_t rank);
/* `value` as an index into `size`, counted from the end if negative; -1 after having said why. */
int64_t planish_index(planish_host *host, int64_t value, int64_t size);
/* The product of dimensions [from, to) of a shape that an object has. */
int64_t planish_product(const int64_t *shape, int32_t from, int32_t to);
/* The shape of `count` shapes broadcast together; false after having said why. */
bool planish_broadcast(planish_host *host, uint32_t count, const planish_object *const *x, int32_t *rank,
                       int64_t *shape);
/* The flat index in `x` of element `flat` of the shape that it is broadcast to. */
int64_t planish_broadcast_index(const planish_object *x, int32_t rank, const int64_t *shape, int64_t flat);
/* "[2,3]" */
typedef struct planish_shape_text {
  char text[200];
} planish_shape_text;
const char *planish_show_shape(planish_shape_text *buffer, int32_t rank, const int64_t *shape);

/* concat.c: `count` tensors or strings (at least one) along an axis. */
planish_status planish_concat(planish_host *host, uint32_t count, planish_object *const *x, int64_t axis,
                              planish_object **out);

/* ---- attributes ---- */
const planish_attribute *planish_find_attribute(const planish_step *step, const char *name); /* NULL: absent */
int64_t planish_int_attribute(const planish_step *step, const char *name, int64_t otherwise);
double planish_float_attribute(const planish_step *step, const char *name, double otherwise);
const char *planish_string_attribute(const planish_step *step, const char *name, const char *otherwise);
/* An attribute that must be there, of that kind; NULL after having said why. */
const planish_attribute *planish_need_attribute(planish_host *host, const char *name, int32_t kind);
static inline int64_t planish_attribute_int(const planish_attribute *attribute, uint32_t index) {
  return ((const int64_t *)attribute->data)[index];
}
static inline double planish_attribute_float(const planish_attribute *attribute, uint32_t index) {
  return ((const double *)attribute->data)[index];
}
static inline const char *planish_attribute_text(const planish_attribute *attribute, uint32_t index, uint64_t *length) {
  *length = attribute->lengths[index];
  return ((const char *const *)attribute->data)[index];
}
/* The tensor or strings of a constant: a new reference, made once. NULL after having said why. */
planish_object *planish_constant_object(planish_host *host, const planish_constant *constant);

/* ---- what is kept from run to run ---- */
void *planish_find_kept(const planish_host *host, const void *key);
/* Keep `value` under `key`; when there is no memory it is destroyed at once. False after having said why. */
bool planish_keep(planish_host *host, const void *key, void *value, void (*destroy)(void *value));

/* island.c */
planish_status planish_run_island(planish_host *host, planish_object *const *in, planish_object **out);

#endif
