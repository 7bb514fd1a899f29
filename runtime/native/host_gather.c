/* Host functions that take elements of tensors and strings by computed index. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

/* take: index into all operands behind it, one after the other */
static planish_status take_one(planish_host *host, const planish_step *step, planish_object *const *in, int64_t index,
                               planish_object *out) {
  if (index == -1) return planish_put_nothing(host, out, 1);
  int64_t rest = index;
  for (uint32_t k = 1; k < step->n_in && rest >= 0; k++) {
    if (rest < in[k]->count) return planish_put(host, out, in[k], rest, 1);
    rest -= in[k]->count;
  }
  return planish_host_fail(host, PLANISH_INDEX_OUT_OF_RANGE, "index: expected -1 to %" PRId64 ", got %" PRId64,
                           index < 0 ? INT64_MAX : index - rest - 1, index);
}

PLANISH_HOST_FUNCTION(take) {
  const planish_object *index = planish_tensor_operand(host, in, 0, "i64");
  if (!index) return PLANISH_FAILED;
  for (uint32_t k = 1; k < step->n_in; k++) {
    if (!planish_array_operand(host, in, k)) return PLANISH_FAILED;
    if (in[k]->kind != in[1]->kind || memcmp(&in[k]->dtype, &in[1]->dtype, sizeof in[1]->dtype))
      return planish_host_fail(host, PLANISH_FAILED, "operands %u and 1 differ in type", k);
  }
  if (step->n_in < 2) return planish_host_fail(host, PLANISH_FAILED, "expected values to take from");
  out[0] = planish_host_like(host, in[1], index->rank, index->shape);
  planish_status status = out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
  for (int64_t i = 0; i < index->count && !status; i++) {
    status = take_one(host, step, in, planish_int_at(index, i), out[0]);
    if (!status) status = planish_host_tick(host);
  }
  return status;
}

/* The index operand: integers, i64 or i32. */
static const planish_object *index_operand(planish_host *host, planish_object *const *in, uint32_t number) {
  const planish_object *index = planish_tensor_operand(host, in, number, NULL);
  if (!index || planish_is_dtype(index, "i64") || planish_is_dtype(index, "i32")) return index;
  planish_host_fail(host, PLANISH_FAILED, "operand %u: type: expected i64 or i32", number);
  return NULL;
}

static bool join_shapes(planish_host *host, int64_t *shape, int32_t *rank, const int64_t *dims, int64_t count) {
  if (*rank + count > PLANISH_MAX_RANK) {
    planish_host_fail(host, PLANISH_FAILED, "rank: expected at most %d", PLANISH_MAX_RANK);
    return false;
  }
  if (count > 0) memcpy(shape + *rank, dims, (size_t)count * sizeof *dims);
  *rank += (int32_t)(count > 0 ? count : 0);
  return true;
}

static planish_status gather(planish_host *host, const planish_object *x, const planish_object *index, int32_t axis,
                             planish_object **out) {
  int64_t shape[PLANISH_MAX_RANK];
  int32_t rank = 0;
  if (!join_shapes(host, shape, &rank, x->shape, axis) || !join_shapes(host, shape, &rank, index->shape, index->rank) ||
      !join_shapes(host, shape, &rank, x->shape + axis + 1, x->rank - axis - 1))
    return PLANISH_FAILED;
  *out = planish_host_like(host, x, rank, shape);
  if (!*out) return PLANISH_OUT_OF_MEMORY;
  if (!(*out)->count) return PLANISH_OK;
  int64_t outer = planish_product(x->shape, 0, axis), size = x->shape[axis],
          inner = planish_product(x->shape, axis + 1, x->rank);
  for (int64_t o = 0; o < outer; o++)
    for (int64_t i = 0; i < index->count; i++) {
      int64_t at = planish_index(host, planish_int_at(index, i), size);
      if (at < 0) return PLANISH_INDEX_OUT_OF_RANGE;
      planish_status status = planish_put(host, *out, x, (o * size + at) * inner, inner);
      if (!status) status = planish_host_tick(host);
      if (status) return status;
    }
  return PLANISH_OK;
}

PLANISH_HOST_FUNCTION(gather) {
  const planish_object *x = planish_array_operand(host, in, 0), *index = x ? index_operand(host, in, 1) : NULL;
  int32_t axis = index ? planish_axis(host, planish_int_attribute(step, "axis", 0), x->rank) : -1;
  return axis < 0 ? PLANISH_FAILED : gather(host, x, index, axis, out);
}

PLANISH_HOST_FUNCTION(array_feature_extractor) {
  const planish_object *x = planish_array_operand(host, in, 0), *index = x ? index_operand(host, in, 1) : NULL;
  (void)step;
  if (!index) return PLANISH_FAILED;
  if (!x->rank) return planish_host_fail(host, PLANISH_FAILED, "operand 0: expected at least one dimension");
  planish_object flat = *index; /* in one dimension */
  int64_t row[2] = {1, x->shape[0]};
  flat.rank = 1;
  flat.shape = &index->count;
  planish_object wide = *x;
  if (x->rank == 1) wide.rank = 2, wide.shape = row; /* a vector is one row */
  return gather(host, &wide, &flat, wide.rank - 1, out);
}

PLANISH_HOST_FUNCTION(gather_elements) {
  const planish_object *x = planish_array_operand(host, in, 0), *index = x ? index_operand(host, in, 1) : NULL;
  int32_t axis = index ? planish_axis(host, planish_int_attribute(step, "axis", 0), x->rank) : -1;
  if (axis < 0) return PLANISH_FAILED;
  bool fits = index->rank == x->rank;
  for (int32_t d = 0; fits && d < x->rank; d++) fits = d == axis || index->shape[d] <= x->shape[d];
  if (!fits)
    return planish_host_fail(host, PLANISH_FAILED, "index: expected the shape of the data, but along axis %d", axis);
  out[0] = planish_host_like(host, x, index->rank, index->shape);
  planish_status status = out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
  for (int64_t i = 0; i < index->count && !status; i++) {
    int64_t at = planish_index(host, planish_int_at(index, i), x->shape[axis]), from = 0, step_size = 1, rest = i;
    if (at < 0) return PLANISH_INDEX_OUT_OF_RANGE;
    for (int32_t d = x->rank - 1; d >= 0; d--) {
      from += (d == axis ? at : rest % index->shape[d]) * step_size;
      rest /= index->shape[d];
      step_size *= x->shape[d];
    }
    status = planish_put(host, out[0], x, from, 1);
    if (!status) status = planish_host_tick(host);
  }
  return status;
}

static planish_status gather_nd(planish_host *host, const planish_object *x, const planish_object *index, int64_t batch,
                                planish_object **out) {
  int64_t depth = index->rank ? index->shape[index->rank - 1] : 0, shape[PLANISH_MAX_RANK];
  int32_t rank = 0;
  bool fits = index->rank >= 1 && batch >= 0 && batch < index->rank && batch <= x->rank && depth >= 1 &&
              depth <= x->rank - batch;
  for (int64_t d = 0; fits && d < batch; d++) fits = x->shape[d] == index->shape[d];
  if (!fits) return planish_host_fail(host, PLANISH_FAILED, "index: its shape does not fit the data");
  if (!join_shapes(host, shape, &rank, index->shape, index->rank - 1) ||
      !join_shapes(host, shape, &rank, x->shape + batch + depth, x->rank - batch - depth))
    return PLANISH_FAILED;
  *out = planish_host_like(host, x, rank, shape);
  if (!*out) return PLANISH_OUT_OF_MEMORY;
  if (!(*out)->count) return PLANISH_OK;
  int64_t batches = planish_product(x->shape, 0, (int32_t)batch), rows = index->count / depth;
  int64_t inner = planish_product(x->shape, (int32_t)(batch + depth), x->rank);
  for (int64_t r = 0; r < rows; r++) {
    int64_t from = r / (rows / batches);
    for (int64_t k = 0; k < depth; k++) {
      int64_t size = x->shape[batch + k], at = planish_index(host, planish_int_at(index, r * depth + k), size);
      if (at < 0) return PLANISH_INDEX_OUT_OF_RANGE;
      from = from * size + at;
    }
    planish_status status = planish_put(host, *out, x, from * inner, inner);
    if (!status) status = planish_host_tick(host);
    if (status) return status;
  }
  return PLANISH_OK;
}

PLANISH_HOST_FUNCTION(gather_nd) {
  const planish_object *x = planish_array_operand(host, in, 0), *index = x ? index_operand(host, in, 1) : NULL;
  return index ? gather_nd(host, x, index, planish_int_attribute(step, "batch_dims", 0), out) : PLANISH_FAILED;
}

PLANISH_HOST_FUNCTION(where) {
  const planish_object *condition = planish_tensor_operand(host, in, 0, "bool");
  const planish_object *x = condition ? planish_array_operand(host, in, 1) : NULL,
                       *y = x ? planish_array_operand(host, in, 2) : NULL;
  int64_t shape[PLANISH_MAX_RANK];
  int32_t rank;
  (void)step;
  if (!y) return PLANISH_FAILED;
  if (x->kind != y->kind || memcmp(&x->dtype, &y->dtype, sizeof x->dtype))
    return planish_host_fail(host, PLANISH_FAILED, "operands 1 and 2 differ in type");
  if (!planish_broadcast(host, 3, (const planish_object *const[]){condition, x, y}, &rank, shape))
    return PLANISH_FAILED;
  out[0] = planish_host_like(host, x, rank, shape);
  planish_status status = out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
  for (int64_t i = 0; !status && i < out[0]->count; i++) {
    bool first = ((const uint8_t *)condition->data)[planish_broadcast_index(condition, rank, shape, i)] != 0;
    const planish_object *from = first ? x : y;
    status = planish_put(host, out[0], from, planish_broadcast_index(from, rank, shape, i), 1);
    if (!status) status = planish_host_tick(host);
  }
  return status;
}
