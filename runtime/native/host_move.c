/* Host functions that move elements of tensors and strings: all write their result in order, in runs as long as they can. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

/* ---- a view: the element of the result at an index is that of x at start + sum of index * stride ---- */
typedef struct view {
  int32_t rank;
  int64_t start, shape[PLANISH_MAX_RANK], stride[PLANISH_MAX_RANK];
} view;

static view view_of(const planish_object *x) {
  view v = {.rank = x->rank};
  int64_t step = 1;
  for (int32_t d = x->rank - 1; d >= 0; d--) {
    v.shape[d] = x->shape[d];
    v.stride[d] = step;
    if (__builtin_mul_overflow(step, x->shape[d], &step)) step = 0; /* there are no elements then */
  }
  return v;
}

/* How many innermost dimensions lie in x as they do in the result, and their number of elements. */
static int32_t contiguous(const view *v, int64_t *run) {
  int32_t d = v->rank;
  *run = 1;
  while (d > 0 && (v->stride[d - 1] == *run || v->shape[d - 1] == 1)) *run *= v->shape[--d];
  return d;
}

static planish_status copy_view(planish_host *host, const planish_object *x, const view *v, planish_object *out) {
  int64_t run, index[PLANISH_MAX_RANK] = {0}, from = v->start;
  if (!out->count) return PLANISH_OK;
  int32_t outer = contiguous(v, &run);
  while (out->filled < out->count) {
    planish_status status = planish_put(host, out, x, from, run);
    if (!status) status = planish_host_tick(host);
    if (status) return status;
    for (int32_t d = outer - 1; d >= 0; d--) {
      from += v->stride[d];
      if (++index[d] < v->shape[d]) break;
      from -= v->stride[d] * v->shape[d];
      index[d] = 0;
    }
  }
  return PLANISH_OK;
}

static planish_status give_view(planish_host *host, const planish_object *x, const view *v, planish_object **out) {
  *out = planish_host_like(host, x, v->rank, v->shape);
  return *out ? copy_view(host, x, v, *out) : PLANISH_OUT_OF_MEMORY;
}

/* x in another shape of as many elements. */
static planish_status reshaped(planish_host *host, const planish_object *x, int32_t rank, const int64_t *shape,
                               planish_object **out) {
  *out = planish_host_like(host, x, rank, shape);
  return *out ? planish_put(host, *out, x, 0, x->count) : PLANISH_OUT_OF_MEMORY;
}

PLANISH_HOST_FUNCTION(identity) {
  (void)host, (void)step;
  out[0] = planish_retain(in[0]);
  return PLANISH_OK;
}

PLANISH_HOST_FUNCTION(shape) {
  const planish_object *x = planish_array_operand(host, in, 0);
  if (!x) return PLANISH_FAILED;
  int64_t rank = x->rank, start = planish_int_attribute(step, "start", 0),
          end = planish_int_attribute(step, "end", rank);
  if (start < 0) start = start < -rank ? 0 : start + rank;
  if (end < 0) end = end < -rank ? 0 : end + rank;
  if (start > rank) start = rank;
  if (end > rank) end = rank;
  int64_t count = end > start ? end - start : 0;
  out[0] = planish_host_tensor(host, "i64", 1, &count);
  if (out[0] && count) memcpy(out[0]->data, x->shape + start, (size_t)count * sizeof(int64_t));
  return out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
}

PLANISH_HOST_FUNCTION(size) {
  const planish_object *x = planish_array_operand(host, in, 0);
  (void)step;
  if (!x) return PLANISH_FAILED;
  out[0] = planish_host_i64(host, x->count);
  return out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
}

/* ---- reshape ---- */
static planish_status refuse_reshape(planish_host *host, const planish_object *x, int64_t rank, const int64_t *wanted) {
  planish_shape_text from, to;
  return planish_host_fail(host, PLANISH_FAILED, "reshape: %s does not fit into %s",
                           planish_show_shape(&from, x->rank, x->shape),
                           planish_show_shape(&to, (int32_t)rank, wanted));
}

static planish_status resolve_shape(planish_host *host, const planish_object *x, int64_t rank, const int64_t *wanted,
                                    bool allow_zero, int64_t *shape) {
  int64_t open = -1, known = 1;
  for (int64_t d = 0; d < rank; d++) {
    shape[d] = wanted[d];
    if (wanted[d] == 0 && !allow_zero) {
      if (d >= x->rank) return refuse_reshape(host, x, rank, wanted);
      shape[d] = x->shape[d];
    }
    bool wrong = shape[d] < -1 || (shape[d] == -1 && open >= 0);
    if (shape[d] == -1) open = d;
    else if (!wrong) wrong = __builtin_mul_overflow(known, shape[d], &known);
    if (wrong) return refuse_reshape(host, x, rank, wanted);
  }
  if (open >= 0) shape[open] = known ? x->count / known : 0;
  if (planish_element_count((int32_t)rank, shape) != x->count) return refuse_reshape(host, x, rank, wanted);
  return PLANISH_OK;
}

PLANISH_HOST_FUNCTION(reshape) {
  const planish_object *x = planish_array_operand(host, in, 0);
  int64_t rank = 0, shape[PLANISH_MAX_RANK], *wanted = x ? planish_integers(host, in, 1, &rank) : NULL;
  if (!wanted) return PLANISH_FAILED;
  planish_status status =
      rank > PLANISH_MAX_RANK
          ? planish_host_fail(host, PLANISH_FAILED, "rank: expected at most %d, got %" PRId64, PLANISH_MAX_RANK, rank)
          : resolve_shape(host, x, rank, wanted, planish_int_attribute(step, "allowzero", 0) != 0, shape);
  free(wanted);
  return status ? status : reshaped(host, x, (int32_t)rank, shape, out);
}

/* The axes of operand 1 as flags over `rank` dimensions; false after having said why. */
static bool read_axes(planish_host *host, planish_object *const *in, int32_t rank, bool *chosen, int64_t *count) {
  int64_t *axes = planish_integers(host, in, 1, count);
  if (!axes) return false;
  bool good = true;
  for (int64_t i = 0; i < *count && good; i++) {
    int32_t axis = planish_axis(host, axes[i], rank);
    if (axis >= 0 && chosen[axis]) planish_host_fail(host, PLANISH_FAILED, "axis %d is given twice", axis);
    good = axis >= 0 && !chosen[axis];
    if (good) chosen[axis] = true;
  }
  free(axes);
  return good;
}

PLANISH_HOST_FUNCTION(squeeze) {
  const planish_object *x = planish_array_operand(host, in, 0);
  bool chosen[PLANISH_MAX_RANK] = {false}, given = planish_maybe(step, in, 1) != NULL;
  int64_t shape[PLANISH_MAX_RANK], count;
  int32_t rank = 0;
  if (!x || (given && !read_axes(host, in, x->rank, chosen, &count))) return PLANISH_FAILED;
  for (int32_t d = 0; d < x->rank; d++) {
    if (chosen[d] && x->shape[d] != 1)
      return planish_host_fail(host, PLANISH_FAILED, "dimension %d: expected 1, got %" PRId64, d, x->shape[d]);
    if (given ? !chosen[d] : x->shape[d] != 1) shape[rank++] = x->shape[d];
  }
  return reshaped(host, x, rank, shape, out);
}

PLANISH_HOST_FUNCTION(unsqueeze) {
  const planish_object *x = planish_array_operand(host, in, 0),
                       *axes = x ? planish_tensor_operand(host, in, 1, NULL) : NULL;
  bool chosen[PLANISH_MAX_RANK] = {false};
  int64_t shape[PLANISH_MAX_RANK], count;
  (void)step;
  if (!axes) return PLANISH_FAILED;
  if (axes->count > PLANISH_MAX_RANK - x->rank)
    return planish_host_fail(host, PLANISH_FAILED, "rank: expected at most %d", PLANISH_MAX_RANK);
  int32_t rank = x->rank + (int32_t)axes->count, next = 0;
  if (!read_axes(host, in, rank, chosen, &count)) return PLANISH_FAILED;
  for (int32_t d = 0; d < rank; d++) shape[d] = chosen[d] ? 1 : x->shape[next++];
  return reshaped(host, x, rank, shape, out);
}

PLANISH_HOST_FUNCTION(transpose) {
  const planish_object *x = planish_array_operand(host, in, 0);
  const planish_attribute *perm = planish_find_attribute(step, "perm");
  bool seen[PLANISH_MAX_RANK] = {false};
  if (!x) return PLANISH_FAILED;
  if (perm && perm->count != (uint32_t)x->rank)
    return planish_host_fail(host, PLANISH_FAILED, "perm: expected %d numbers, got %u", x->rank, perm->count);
  view from = view_of(x), to = from;
  for (int32_t d = 0; d < x->rank; d++) {
    int32_t axis = perm ? planish_axis(host, planish_attribute_int(perm, (uint32_t)d), x->rank) : x->rank - 1 - d;
    if (axis < 0) return PLANISH_FAILED;
    if (seen[axis]) return planish_host_fail(host, PLANISH_FAILED, "perm: %d is there twice", axis);
    seen[axis] = true;
    to.shape[d] = from.shape[axis];
    to.stride[d] = from.stride[axis];
  }
  return give_view(host, x, &to, out);
}

PLANISH_HOST_FUNCTION(expand) {
  const planish_object *x = planish_array_operand(host, in, 0);
  int64_t rank = 0, *wanted = x ? planish_integers(host, in, 1, &rank) : NULL;
  if (!wanted) return PLANISH_FAILED;
  planish_object target = {.rank = (int32_t)rank, .shape = wanted};
  view from = view_of(x), to = {0};
  bool good = rank <= PLANISH_MAX_RANK && planish_element_count((int32_t)rank, wanted) >= 0;
  if (!good) planish_host_fail(host, PLANISH_FAILED, "shape: expected at most %d sizes of 0 or more", PLANISH_MAX_RANK);
  good = good && planish_broadcast(host, 2, (const planish_object *const[]){x, &target}, &to.rank, to.shape);
  for (int32_t d = 0; good && d < x->rank; d++)
    if (from.shape[d] == to.shape[to.rank - x->rank + d]) to.stride[to.rank - x->rank + d] = from.stride[d];
  free(wanted);
  (void)step;
  return good ? give_view(host, x, &to, out) : PLANISH_FAILED;
}

/* ---- slice ---- */
/* Narrow dimension `d` as Python's slices do; `step` is not 0. */
static void narrow(view *v, int32_t d, int64_t start, int64_t end, int64_t step) {
  int64_t size = v->shape[d], lowest = step > 0 ? 0 : -1, highest = step > 0 ? size : size - 1;
  if (start < 0) start = start < -size ? lowest : start + size;
  if (end < 0) end = end < -size ? lowest : end + size;
  if (start > highest) start = highest;
  if (end > highest) end = highest;
  if (start < lowest) start = lowest;
  uint64_t span = step > 0 ? (end > start ? (uint64_t)(end - start) : 0) : (start > end ? (uint64_t)(start - end) : 0);
  uint64_t stride = step > 0 ? (uint64_t)step : 0 - (uint64_t)step, count = span ? (span - 1) / stride + 1 : 0;
  if (count) v->start += start * v->stride[d];
  v->shape[d] = (int64_t)count;
  v->stride[d] = count > 1 ? v->stride[d] * step : 0; /* with one element the product might not fit */
}

static planish_status slice_all(planish_host *host, const planish_object *x, int64_t *const *parts,
                                const int64_t *counts, view *v) {
  bool seen[PLANISH_MAX_RANK] = {false};
  for (int64_t i = 0; i < counts[0]; i++) {
    int32_t axis = planish_axis(host, parts[2] ? parts[2][i] : i, x->rank);
    int64_t step = parts[3] ? parts[3][i] : 1;
    if (axis < 0) return PLANISH_FAILED;
    if (!step || seen[axis])
      return planish_host_fail(host, PLANISH_FAILED,
                               step ? "axis %d is given twice" : "step along axis %d: expected no 0", axis);
    seen[axis] = true;
    narrow(v, axis, parts[0][i], parts[1][i], step);
  }
  return PLANISH_OK;
}

PLANISH_HOST_FUNCTION(slice) {
  const planish_object *x = planish_array_operand(host, in, 0);
  int64_t *parts[4] = {NULL}, counts[4] = {0};
  if (!x) return PLANISH_FAILED;
  planish_status status = PLANISH_OK;
  view v = view_of(x);
  for (uint32_t k = 0; k < 4 && !status; k++) {
    if (k >= 2 && !planish_maybe(step, in, k + 1)) continue;
    parts[k] = planish_integers(host, in, k + 1, &counts[k]);
    if (!parts[k]) status = PLANISH_FAILED;
    else if (counts[k] != counts[0])
      status = planish_host_fail(host, PLANISH_FAILED, "starts, ends, axes and steps differ in number");
  }
  if (!status) status = slice_all(host, x, parts, counts, &v);
  for (int k = 0; k < 4; k++) free(parts[k]);
  return status ? status : give_view(host, x, &v, out);
}

PLANISH_HOST_FUNCTION(split) {
  const planish_object *x = planish_array_operand(host, in, 0);
  int32_t axis = x ? planish_axis(host, planish_int_attribute(step, "axis", 0), x->rank) : -1;
  if (axis < 0) return PLANISH_FAILED;
  int64_t size = x->shape[axis], count = step->n_out, start = 0, *sizes = NULL;
  if (planish_maybe(step, in, 1) && !(sizes = planish_integers(host, in, 1, &count))) return PLANISH_FAILED;
  planish_status status = PLANISH_OK;
  if (count != step->n_out || !count)
    status = planish_host_fail(host, PLANISH_FAILED, "expected %u sizes, got %" PRId64, step->n_out, count);
  int64_t each = count ? (size + count - 1) / count : 0;
  for (uint32_t k = 0; k < step->n_out && !status; k++) {
    int64_t rest = size - start, part = sizes ? sizes[k] : each < rest ? each : rest;
    if (part < 0 || part > rest || (k + 1 == step->n_out && part != rest)) {
      status = planish_host_fail(host, PLANISH_FAILED, "sizes: expected a sum of %" PRId64, size);
      break;
    }
    view v = view_of(x);
    v.start = start * v.stride[axis];
    v.shape[axis] = part;
    status = give_view(host, x, &v, &out[k]);
    start += part;
  }
  free(sizes);
  return status;
}

PLANISH_HOST_FUNCTION(tile) {
  const planish_object *x = planish_array_operand(host, in, 0);
  int64_t count = 0, *repeats = x ? planish_integers(host, in, 1, &count) : NULL;
  if (!repeats) return PLANISH_FAILED;
  view v = {.rank = 2 * x->rank}, from = view_of(x); /* each dimension becomes two: copies, elements */
  int64_t shape[PLANISH_MAX_RANK];
  bool good = count == x->rank && 2 * x->rank <= PLANISH_MAX_RANK;
  for (int32_t d = 0; good && d < x->rank; d++) {
    good = repeats[d] >= 0 && !__builtin_mul_overflow(repeats[d], x->shape[d], &shape[d]);
    v.shape[2 * d] = repeats[d];
    v.shape[2 * d + 1] = from.shape[d];
    v.stride[2 * d + 1] = from.stride[d];
  }
  free(repeats);
  (void)step;
  if (!good) return planish_host_fail(host, PLANISH_FAILED, "repeats: expected %d numbers of 0 or more", x->rank);
  out[0] = planish_host_like(host, x, x->rank, shape);
  return out[0] ? copy_view(host, x, &v, out[0]) : PLANISH_OUT_OF_MEMORY;
}

/* ---- concat ---- */
PLANISH_HOST_FUNCTION(concat) {
  if (!step->n_in) return planish_host_fail(host, PLANISH_FAILED, "expected operands, got none");
  for (uint32_t k = 0; k < step->n_in; k++)
    if (!planish_array_operand(host, in, k)) return PLANISH_FAILED;
  return planish_concat(host, step->n_in, in, planish_int_attribute(step, "axis", 0), out);
}
