/* Operands of host functions: checked access to what a step was given. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

enum { INT = 0, UINT = 1, FLOAT = 2, BFLOAT = 4, COMPLEX = 5, BOOL = 6 };

static const planish_object *operand(planish_host *host, planish_object *const *in, uint32_t index, const char *wanted,
                                     planish_object_kind one, planish_object_kind other) {
  const planish_object *object = index < host->step->n_in ? in[index] : NULL;
  if (object && (object->kind == one || object->kind == other)) return object;
  static const char *const names[] = {"a tensor of numbers", "strings", "a sequence", "a map", "nothing"};
  planish_host_fail(host, PLANISH_FAILED, "operand %u: expected %s, got %s", index, wanted,
                    object ? names[object->kind] : "nothing");
  return NULL;
}

const planish_object *planish_array_operand(planish_host *host, planish_object *const *in, uint32_t index) {
  return operand(host, in, index, "a tensor", PLANISH_OBJECT_TENSOR, PLANISH_OBJECT_STRINGS);
}

const planish_object *planish_strings_operand(planish_host *host, planish_object *const *in, uint32_t index) {
  return operand(host, in, index, "strings", PLANISH_OBJECT_STRINGS, PLANISH_OBJECT_STRINGS);
}

const planish_object *planish_sequence_operand(planish_host *host, planish_object *const *in, uint32_t index) {
  return operand(host, in, index, "a sequence", PLANISH_OBJECT_SEQUENCE, PLANISH_OBJECT_SEQUENCE);
}

const planish_object *planish_map_operand(planish_host *host, planish_object *const *in, uint32_t index) {
  return operand(host, in, index, "a map", PLANISH_OBJECT_MAP, PLANISH_OBJECT_MAP);
}

bool planish_is_dtype(const planish_object *object, const char *dtype) {
  const planish_dtype_info *info = object->kind == PLANISH_OBJECT_TENSOR ? planish_dtype_of(object->dtype) : NULL;
  return info && !strcmp(info->name, dtype);
}

const planish_object *planish_tensor_operand(planish_host *host, planish_object *const *in, uint32_t index,
                                             const char *dtype) {
  const planish_object *x = operand(host, in, index, dtype ? dtype : "a tensor of numbers", PLANISH_OBJECT_TENSOR,
                                    PLANISH_OBJECT_TENSOR);
  if (!x || !dtype || planish_is_dtype(x, dtype)) return x;
  const planish_dtype_info *info = planish_dtype_of(x->dtype);
  planish_host_fail(host, PLANISH_FAILED, "operand %u: type: expected %s, got %s", index, dtype,
                    info ? info->name : "?");
  return NULL;
}

bool planish_may_reuse(const planish_step *step, planish_object *const *in, uint32_t index) {
  if (!in[index] || in[index]->references != 1) return false;
  for (uint32_t i = 0; i < step->n_in; i++)
    if (i != index && in[i] == in[index]) return false; /* it is given twice */
  for (uint32_t i = 0; i < step->n_free; i++)
    if (step->free[i] == step->in[index]) return true;
  return false;
}

int64_t planish_int_at(const planish_object *tensor, int64_t index) {
  const uint8_t *data = tensor->data;
  int bits = tensor->dtype.bits, shift = 64 - bits;
  uint64_t value = 0;
  if (bits < 8) { /* the first one is in the low bits of a byte */
    int each = 8 / bits;
    value = data[index / each] >> (index % each * bits) & ((1u << bits) - 1);
  } else {
    memcpy(&value, data + index * (bits / 8), (size_t)bits / 8u > 8 ? 8 : (size_t)bits / 8u); /* little endian */
  }
  return tensor->dtype.code == INT ? (int64_t)(value << shift) >> shift : (int64_t)value;
}

/* The real (0) or imaginary (1) part of a complex number. */
static double part_at(const planish_object *tensor, int64_t index, int part) {
  float single;
  double value;
  const uint8_t *data = (const uint8_t *)tensor->data + (2 * index + part) * (tensor->dtype.bits / 16);
  if (tensor->dtype.bits == 64) return memcpy(&single, data, 4), single;
  return memcpy(&value, data, 8), value;
}

double planish_number_at(const planish_object *tensor, int64_t index) {
  const uint8_t *data = tensor->data;
  int code = tensor->dtype.code, bits = tensor->dtype.bits;
  uint16_t half;
  float single;
  double value;
  if (code == BFLOAT || (code == FLOAT && bits == 16)) {
    memcpy(&half, data + index * 2, 2);
    return code == BFLOAT ? planish_bf16_value(half) : planish_f16_value(half);
  }
  if (code == FLOAT && bits == 32) return memcpy(&single, data + index * 4, 4), single;
  if (code == FLOAT) return memcpy(&value, data + index * 8, 8), value;
  if (code == COMPLEX) return part_at(tensor, index, 0);
  int64_t integer = planish_int_at(tensor, index);
  return code == UINT ? (double)(uint64_t)integer : (double)integer;
}

static uint64_t as_integer(double value) {
  if (isnan(value)) return 0;
  if (value < 0) return value <= -0x1p63 ? (uint64_t)INT64_MIN : (uint64_t)(int64_t)value;
  return value >= 0x1p64 ? UINT64_MAX : (uint64_t)value;
}

void planish_store_bits(planish_object *tensor, int64_t index, uint64_t value) {
  uint8_t *data = tensor->data;
  int bits = tensor->dtype.bits;
  if (bits < 8) {
    int each = 8 / bits, shift = (int)(index % each) * bits, mask = (1 << bits) - 1;
    data[index / each] = (uint8_t)((data[index / each] & ~(mask << shift)) | ((int)value & mask) << shift);
  } else {
    memcpy(data + index * (bits / 8), &value, (size_t)bits / 8u > 8 ? 8 : (size_t)bits / 8u); /* little endian */
  }
}

void planish_store_number(planish_object *tensor, int64_t index, double value) {
  uint8_t *data = tensor->data;
  int code = tensor->dtype.code, bits = tensor->dtype.bits;
  if (code == BFLOAT || (code == FLOAT && bits == 16)) {
    uint16_t half = code == BFLOAT ? planish_bf16_bits(value) : planish_f16_bits(value);
    memcpy(data + index * 2, &half, 2);
  } else if (code == FLOAT && bits == 32) {
    float single = (float)value;
    memcpy(data + index * 4, &single, 4);
  } else if (code == FLOAT) {
    memcpy(data + index * 8, &value, 8);
  } else {
    planish_store_bits(tensor, index, code == BOOL ? value != 0 : as_integer(value));
  }
}

static int compare_numbers(double one, double other) {
  if (isnan(one) || isnan(other)) return (isnan(one) ? 1 : 0) - (isnan(other) ? 1 : 0);
  return (one > other) - (one < other);
}

/* Those without NaN first, then those with one in the imaginary part, the real part, both; else by parts. */
static int compare_complex(const planish_object *x, int64_t a, int64_t b) {
  double r = part_at(x, a, 0), s = part_at(x, b, 0), i = part_at(x, a, 1), j = part_at(x, b, 1);
  int one = 2 * !!isnan(r) + !!isnan(i), other = 2 * !!isnan(s) + !!isnan(j);
  int order = one != other ? one - other : compare_numbers(r, s);
  return order ? order : compare_numbers(i, j);
}

int planish_compare_elements(const planish_object *x, int64_t a, int64_t b) {
  if (x->kind == PLANISH_OBJECT_STRINGS) {
    uint64_t n, m;
    const char *one = planish_text_at(x, a, &n), *other = planish_text_at(x, b, &m);
    int order = memcmp(one, other, (size_t)(n < m ? n : m));
    return order ? order : (n > m) - (n < m);
  }
  if (x->dtype.code == COMPLEX) return compare_complex(x, a, b);
  if (x->dtype.code == FLOAT || x->dtype.code == BFLOAT)
    return compare_numbers(planish_number_at(x, a), planish_number_at(x, b));
  int64_t one = planish_int_at(x, a), other = planish_int_at(x, b);
  if (x->dtype.code == INT) return (one > other) - (one < other);
  return ((uint64_t)one > (uint64_t)other) - ((uint64_t)one < (uint64_t)other);
}

static bool is_integers(const planish_object *x) {
  return x->dtype.code == INT && (x->dtype.bits == 64 || x->dtype.bits == 32);
}

int64_t *planish_integers(planish_host *host, planish_object *const *in, uint32_t index, int64_t *count) {
  const planish_object *x = planish_tensor_operand(host, in, index, NULL);
  if (x && !is_integers(x)) {
    planish_host_fail(host, PLANISH_FAILED, "operand %u: type: expected i64 or i32", index);
    return NULL;
  }
  int64_t *values = x ? planish_host_alloc(host, x->count, sizeof *values) : NULL;
  if (!values) return NULL;
  for (int64_t i = 0; i < x->count; i++) values[i] = planish_int_at(x, i);
  *count = x->count;
  return values;
}

bool planish_integer(planish_host *host, planish_object *const *in, uint32_t index, int64_t *value) {
  const planish_object *x = planish_tensor_operand(host, in, index, NULL);
  if (!x) return false;
  if (!is_integers(x) || x->count != 1) {
    planish_host_fail(host, PLANISH_FAILED, "operand %u: expected one integer", index);
    return false;
  }
  *value = planish_int_at(x, 0);
  return true;
}

int32_t planish_axis(planish_host *host, int64_t axis, int32_t rank) {
  if (axis >= -rank && axis < rank) return (int32_t)(axis < 0 ? axis + rank : axis);
  planish_host_fail(host, PLANISH_FAILED, "axis: expected %d to %d, got %" PRId64, -rank, rank - 1, axis);
  return -1;
}

int64_t planish_index(planish_host *host, int64_t value, int64_t size) {
  if (value >= -size && value < size) return value < 0 ? value + size : value;
  planish_host_fail(host, PLANISH_INDEX_OUT_OF_RANGE, "index: expected %" PRId64 " to %" PRId64 ", got %" PRId64, -size,
                    size - 1, value);
  return -1;
}

int64_t planish_product(const int64_t *shape, int32_t from, int32_t to) {
  int64_t product = 1;
  for (int32_t d = from; d < to; d++) /* with a 0 elsewhere in the shape the others may be anything */
    if (__builtin_mul_overflow(product, shape[d], &product)) return 0;
  return product;
}

bool planish_broadcast(planish_host *host, uint32_t count, const planish_object *const *x, int32_t *rank,
                       int64_t *shape) {
  planish_shape_text one, other;
  *rank = 0;
  for (uint32_t k = 0; k < count; k++)
    if (x[k]->rank > *rank) *rank = x[k]->rank;
  for (int32_t d = 0; d < *rank; d++) shape[d] = 1;
  for (uint32_t k = 0; k < count; k++)
    for (int32_t d = 0; d < x[k]->rank; d++) {
      int64_t dim = x[k]->shape[d], *to = &shape[*rank - x[k]->rank + d];
      if (*to == 1) *to = dim;
      if (dim == *to || dim == 1) continue;
      planish_host_fail(host, PLANISH_FAILED, "shapes: expected shapes that broadcast, got %s with %s",
                        planish_show_shape(&one, *rank, shape), planish_show_shape(&other, x[k]->rank, x[k]->shape));
      return false;
    }
  return true;
}

int64_t planish_broadcast_index(const planish_object *x, int32_t rank, const int64_t *shape, int64_t flat) {
  int64_t index = 0, step = 1;
  for (int32_t d = rank - 1; d >= rank - x->rank; d--) {
    int64_t dim = x->shape[d - (rank - x->rank)], at = flat % shape[d];
    flat /= shape[d];
    if (dim != 1) index += at * step;
    step *= dim;
  }
  return index;
}

const char *planish_show_shape(planish_shape_text *buffer, int32_t rank, const int64_t *shape) {
  size_t size = sizeof buffer->text, used = (size_t)snprintf(buffer->text, size, "[");
  for (int32_t d = 0; d < rank && used + 24 < size; d++)
    used += (size_t)snprintf(buffer->text + used, size - used, "%s%" PRId64, d ? "," : "", shape[d]);
  snprintf(buffer->text + used, size - used, "]");
  return buffer->text;
}
