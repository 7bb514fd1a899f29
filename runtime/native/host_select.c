/* Host functions whose number of results depends on the data: NonZero, Compress, Unique. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

static bool is_zero(const planish_object *x, int64_t index) {
  static const uint8_t zeros[16];
  if (x->kind == PLANISH_OBJECT_STRINGS) return x->offsets[index] == x->offsets[index + 1];
  if (x->dtype.code == 2 || x->dtype.code == 4) return planish_number_at(x, index) == 0; /* -0 as well */
  if (x->dtype.bits < 8) return planish_int_at(x, index) == 0;
  if (x->dtype.code == 5) { /* complex: -0 in either part */
    planish_object parts = {.data = x->data, .dtype = {2, (uint8_t)(x->dtype.bits / 2), 1}};
    return planish_number_at(&parts, 2 * index) == 0 && planish_number_at(&parts, 2 * index + 1) == 0;
  }
  return !memcmp((const uint8_t *)x->data + index * (x->dtype.bits / 8), zeros, x->dtype.bits / 8u);
}

PLANISH_HOST_FUNCTION(nonzero) {
  const planish_object *x = planish_array_operand(host, in, 0);
  int64_t count = 0, column = 0, *index;
  (void)step;
  if (!x) return PLANISH_FAILED;
  for (int64_t i = 0; i < x->count; i++) count += !is_zero(x, i);
  int64_t shape[2] = {x->rank ? x->rank : 1, count};
  out[0] = planish_host_tensor(host, "i64", 2, shape);
  if (!out[0]) return PLANISH_OUT_OF_MEMORY;
  index = out[0]->data;
  if (!x->rank && count) index[0] = 0;
  for (int64_t i = 0; i < x->count && x->rank; i++) {
    if (planish_host_tick(host)) return PLANISH_CANCELLED;
    if (is_zero(x, i)) continue;
    int64_t rest = i;
    for (int32_t d = x->rank - 1; d >= 0; d--) {
      index[d * count + column] = rest % x->shape[d];
      rest /= x->shape[d];
    }
    column++;
  }
  return PLANISH_OK;
}

PLANISH_HOST_FUNCTION(compress) {
  const planish_object *x = planish_array_operand(host, in, 0),
                       *condition = x ? planish_tensor_operand(host, in, 1, "bool") : NULL;
  const planish_attribute *given = planish_find_attribute(step, "axis");
  if (!condition) return PLANISH_FAILED;
  int32_t axis = given ? planish_axis(host, planish_attribute_int(given, 0), x->rank) : 0, rank = given ? x->rank : 1;
  if (axis < 0) return PLANISH_FAILED;
  const uint8_t *wanted = condition->data;
  int64_t size = given ? x->shape[axis] : x->count, count = 0, shape[PLANISH_MAX_RANK];
  if (condition->rank != 1 || condition->count > size)
    return planish_host_fail(host, PLANISH_FAILED, "condition: expected one dimension of at most %" PRId64, size);
  for (int64_t i = 0; i < condition->count; i++) count += wanted[i] != 0;
  if (given) memcpy(shape, x->shape, (size_t)rank * sizeof *shape);
  shape[axis] = count;
  out[0] = planish_host_like(host, x, rank, shape);
  if (!out[0]) return PLANISH_OUT_OF_MEMORY;
  if (!out[0]->count) return PLANISH_OK;
  int64_t outer = given ? planish_product(x->shape, 0, axis) : 1,
          inner = given ? planish_product(x->shape, axis + 1, rank) : 1;
  for (int64_t o = 0; o < outer; o++)
    for (int64_t i = 0; i < condition->count; i++) {
      planish_status status = wanted[i] ? planish_put(host, out[0], x, (o * size + i) * inner, inner) : PLANISH_OK;
      if (!status) status = planish_host_tick(host);
      if (status) return status;
    }
  return PLANISH_OK;
}

/* ---- unique ---- */
typedef struct slices { /* what is compared: elements, or slices along an axis */
  const planish_object *x;
  int64_t count, outer, inner; /* slice i: elements (o * count + i) * inner + k */
} slices;

static int compare_slices(const slices *s, int64_t a, int64_t b) {
  for (int64_t o = 0; o < s->outer; o++)
    for (int64_t k = 0; k < s->inner; k++) {
      int order = planish_compare_elements(s->x, (o * s->count + a) * s->inner + k, (o * s->count + b) * s->inner + k);
      if (order) return order;
    }
  return 0;
}

/* A stable merge sort of slice numbers. */
static planish_status sort(planish_host *host, const slices *s, int64_t *order, int64_t *room) {
  for (int64_t width = 1; width < s->count; width *= 2)
    for (int64_t start = 0; start < s->count; start += 2 * width) {
      int64_t middle = start + width < s->count ? start + width : s->count,
              end = middle + width < s->count ? middle + width : s->count;
      int64_t a = start, b = middle;
      for (int64_t i = start; i < end; i++) {
        bool first = a < middle && (b >= end || compare_slices(s, order[a], order[b]) <= 0);
        room[i] = first ? order[a++] : order[b++];
        planish_status status = planish_host_tick(host);
        if (status) return status;
      }
      memcpy(order + start, room + start, (size_t)(end - start) * sizeof *order);
    }
  return PLANISH_OK;
}

typedef struct groups {
  int64_t count, *first, *inverse, *sizes; /* of each group its first slice, of each slice its group */
} groups;

/* Equal slices become groups, in order of their value, or of their first occurrence. */
static planish_status group(planish_host *host, const slices *s, bool sorted, int64_t *order, int64_t *room,
                            groups *g) {
  for (int64_t i = 0; i < s->count; i++) order[i] = i;
  planish_status status = sort(host, s, order, room);
  if (status) return status;
  for (int64_t i = 0; i < s->count; i++) {
    if (!i || compare_slices(s, order[i - 1], order[i])) g->first[g->count++] = order[i]; /* stable: the first one */
    g->inverse[order[i]] = g->count - 1;
    g->sizes[g->count - 1]++;
  }
  if (sorted) return PLANISH_OK;
  for (int64_t i = 0; i < g->count; i++) room[i] = -1; /* new number of each group */
  int64_t next = 0;
  for (int64_t i = 0; i < s->count; i++) {
    int64_t *number = &room[g->inverse[i]];
    if (*number < 0) {
      order[next] = i; /* not needed any more */
      *number = next++;
    }
    g->inverse[i] = *number;
  }
  memcpy(g->first, order, (size_t)next * sizeof *order);
  memset(g->sizes, 0, (size_t)next * sizeof *g->sizes);
  for (int64_t i = 0; i < s->count; i++) g->sizes[g->inverse[i]]++;
  return PLANISH_OK;
}

static planish_status give_numbers(planish_host *host, const planish_step *step, uint32_t index, const int64_t *values,
                                   int64_t count, planish_object **out) {
  if (index >= step->n_out || step->out[index] < 0) return PLANISH_OK;
  out[index] = planish_host_tensor(host, "i64", 1, &count);
  if (!out[index]) return PLANISH_OUT_OF_MEMORY;
  if (count) memcpy(out[index]->data, values, (size_t)count * sizeof *values);
  return PLANISH_OK;
}

static planish_status give_groups(planish_host *host, const planish_step *step, const slices *s, const groups *g,
                                  int32_t axis, planish_object **out) {
  int64_t shape[PLANISH_MAX_RANK];
  if (axis >= 0) memcpy(shape, s->x->shape, (size_t)s->x->rank * sizeof *shape);
  shape[axis < 0 ? 0 : axis] = g->count;
  out[0] = planish_host_like(host, s->x, axis < 0 ? 1 : s->x->rank, shape);
  planish_status status = out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
  for (int64_t o = 0; !status && out[0]->count && o < s->outer; o++)
    for (int64_t i = 0; i < g->count && !status; i++)
      status = planish_put(host, out[0], s->x, (o * s->count + g->first[i]) * s->inner, s->inner);
  if (!status) status = give_numbers(host, step, 1, g->first, g->count, out);
  if (!status) status = give_numbers(host, step, 2, g->inverse, s->count, out);
  return status ? status : give_numbers(host, step, 3, g->sizes, g->count, out);
}

PLANISH_HOST_FUNCTION(unique) {
  const planish_object *x = planish_array_operand(host, in, 0);
  const planish_attribute *given = planish_find_attribute(step, "axis");
  int32_t axis = -1;
  if (!x || (given && (axis = planish_axis(host, planish_attribute_int(given, 0), x->rank)) < 0)) return PLANISH_FAILED;
  slices s = {x, x->count, 1, 1};
  if (given)
    s = (slices){x, x->shape[axis], planish_product(x->shape, 0, axis), planish_product(x->shape, axis + 1, x->rank)};
  if (given && !x->count) s.outer = s.inner = 0; /* all slices are empty, and equal */
  int64_t *memory = s.count > INT64_MAX / 8 ? NULL : planish_host_alloc(host, s.count * 5, sizeof *memory);
  if (!memory) return planish_host_no_memory(host);
  groups g = {0, memory + 2 * s.count, memory + 3 * s.count, memory + 4 * s.count};
  planish_status status = group(host, &s, planish_int_attribute(step, "sorted", 1) != 0, memory, memory + s.count, &g);
  if (!status) status = give_groups(host, step, &s, &g, axis, out);
  free(memory);
  return status;
}
