/* Host functions on sequences and optionals. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "host.h"

static planish_status add(planish_host *host, planish_object *sequence, planish_object *item) {
  if (!item) return planish_host_fail(host, PLANISH_FAILED, "an item of a sequence is absent");
  return planish_sequence_add(sequence, item) ? PLANISH_OK : planish_host_no_memory(host);
}

PLANISH_HOST_FUNCTION(seq_empty) {
  (void)step, (void)in;
  return (out[0] = planish_host_sequence(host, 0)) ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
}

PLANISH_HOST_FUNCTION(seq_construct) {
  out[0] = planish_host_sequence(host, step->n_in);
  planish_status status = out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
  for (uint32_t k = 0; k < step->n_in && !status; k++) status = add(host, out[0], in[k]);
  return status;
}

PLANISH_HOST_FUNCTION(seq_length) {
  const planish_object *sequence = planish_sequence_operand(host, in, 0);
  (void)step;
  if (!sequence) return PLANISH_FAILED;
  return (out[0] = planish_host_i64(host, sequence->count)) ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
}

PLANISH_HOST_FUNCTION(seq_at) {
  const planish_object *sequence = planish_sequence_operand(host, in, 0);
  int64_t position;
  (void)step;
  if (!sequence || !planish_integer(host, in, 1, &position)) return PLANISH_FAILED;
  int64_t at = planish_index(host, position, sequence->count);
  if (at < 0) return PLANISH_INDEX_OUT_OF_RANGE;
  out[0] = planish_retain(sequence->items[at]);
  return PLANISH_OK;
}

/* The sequence that may be changed: operand 0 itself when nobody else has it, else a copy with room for one more. */
static planish_object *own_sequence(planish_host *host, const planish_step *step, planish_object *const *in) {
  planish_object *sequence = in[0];
  if (planish_may_reuse(step, in, 0)) return planish_retain(sequence);
  planish_object *copy = planish_host_sequence(host, sequence->count + 1);
  for (int64_t i = 0; copy && i < sequence->count; i++) planish_sequence_add(copy, sequence->items[i]);
  return copy;
}

PLANISH_HOST_FUNCTION(seq_insert) {
  const planish_object *sequence = planish_sequence_operand(host, in, 0);
  int64_t position = sequence ? sequence->count : 0;
  if (!sequence || (planish_maybe(step, in, 2) && !planish_integer(host, in, 2, &position))) return PLANISH_FAILED;
  int64_t count = sequence->count, at = position < 0 ? position + count : position;
  if (at < 0 || at > count)
    return planish_host_fail(host, PLANISH_INDEX_OUT_OF_RANGE,
                             "position: expected %" PRId64 " to %" PRId64 ", got %" PRId64, -count, count, position);
  planish_object *made = own_sequence(host, step, in);
  if (!made) return PLANISH_OUT_OF_MEMORY;
  planish_status status = add(host, made, in[1]);
  if (status) {
    planish_release(made);
    return status;
  }
  planish_object *item = made->items[count];
  memmove(made->items + at + 1, made->items + at, (size_t)(count - at) * sizeof item);
  made->items[at] = item;
  out[0] = made;
  return PLANISH_OK;
}

PLANISH_HOST_FUNCTION(seq_erase) {
  const planish_object *sequence = planish_sequence_operand(host, in, 0);
  int64_t position = -1;
  if (!sequence || (planish_maybe(step, in, 1) && !planish_integer(host, in, 1, &position))) return PLANISH_FAILED;
  int64_t at = planish_index(host, position, sequence->count);
  if (at < 0) return PLANISH_INDEX_OUT_OF_RANGE;
  planish_object *made = own_sequence(host, step, in);
  if (!made) return PLANISH_OUT_OF_MEMORY;
  planish_release(made->items[at]);
  made->count--;
  memmove(made->items + at, made->items + at + 1, (size_t)(made->count - at) * sizeof *made->items);
  out[0] = made;
  return PLANISH_OK;
}

/* ---- to and from tensors ---- */
typedef struct pieces {
  const planish_object *x;
  int32_t axis;
  bool keep; /* the dimension of size 1 */
} pieces;

static planish_status add_piece(planish_host *host, const pieces *p, int64_t start, int64_t size,
                                planish_object *sequence) {
  const planish_object *x = p->x;
  int64_t shape[PLANISH_MAX_RANK];
  int32_t rank = 0;
  for (int32_t d = 0; d < x->rank; d++)
    if (d != p->axis || p->keep) shape[rank++] = d == p->axis ? size : x->shape[d];
  planish_object *piece = planish_host_like(host, x, rank, shape);
  if (!piece) return PLANISH_OUT_OF_MEMORY;
  int64_t outer = piece->count ? planish_product(x->shape, 0, p->axis) : 0,
          inner = planish_product(x->shape, p->axis + 1, x->rank);
  planish_status status = planish_host_tick(host);
  for (int64_t o = 0; o < outer && !status; o++)
    status = planish_put(host, piece, x, (o * x->shape[p->axis] + start) * inner, size * inner);
  if (!status) status = add(host, sequence, piece);
  planish_release(piece);
  return status;
}

/* `sizes` (NULL: all 1) of `count` pieces, or one size for all. */
static planish_status split_all(planish_host *host, const pieces *p, const int64_t *sizes, int64_t count, bool one,
                                planish_object *sequence) {
  int64_t size = p->x->shape[p->axis], start = 0;
  if (one && sizes[0] < 1)
    return planish_host_fail(host, PLANISH_FAILED, "split: expected a size of at least 1, got %" PRId64, sizes[0]);
  planish_status status = PLANISH_OK;
  for (int64_t i = 0; !status && (one || !sizes ? start < size : i < count); i++) {
    int64_t rest = size - start, part = !sizes ? 1 : one ? (sizes[0] < rest ? sizes[0] : rest) : sizes[i];
    if (part < 0 || part > rest)
      return planish_host_fail(host, PLANISH_FAILED, "split: expected sizes whose sum is %" PRId64, size);
    status = add_piece(host, p, start, part, sequence);
    start += part;
  }
  if (!status && start != size)
    return planish_host_fail(host, PLANISH_FAILED, "split: expected sizes whose sum is %" PRId64, size);
  return status;
}

PLANISH_HOST_FUNCTION(split_to_sequence) {
  const planish_object *x = planish_array_operand(host, in, 0), *split = planish_maybe(step, in, 1);
  int32_t axis = x ? planish_axis(host, planish_int_attribute(step, "axis", 0), x->rank) : -1;
  int64_t count = 0, *sizes = NULL;
  if (axis < 0 || (split && !(sizes = planish_integers(host, in, 1, &count)))) return PLANISH_FAILED;
  pieces p = {x, axis, split || planish_int_attribute(step, "keepdims", 1) != 0};
  out[0] = planish_host_sequence(host, 0);
  planish_status status =
      out[0] ? split_all(host, &p, sizes, count, split && split->rank == 0, out[0]) : PLANISH_OUT_OF_MEMORY;
  free(sizes);
  return status;
}

/* Stack along a new axis: concatenation of the items with a dimension of 1 put in. */
static planish_status stack(planish_host *host, const planish_object *sequence, int64_t axis, planish_object **out) {
  const planish_object *first = sequence->items[0];
  int64_t shape[PLANISH_MAX_RANK];
  int32_t rank = first->rank + 1, at = rank > PLANISH_MAX_RANK ? -1 : planish_axis(host, axis, rank);
  if (at < 0) return PLANISH_FAILED;
  for (int64_t i = 0; i < sequence->count; i++) {
    const planish_object *item = sequence->items[i];
    bool same = item->kind == first->kind && item->rank == first->rank &&
                !memcmp(&item->dtype, &first->dtype, sizeof item->dtype);
    for (int32_t d = 0; same && d < item->rank; d++) same = item->shape[d] == first->shape[d];
    if (!same)
      return planish_host_fail(host, PLANISH_FAILED, "item %" PRId64 ": expected the type and shape of the first", i);
  }
  for (int32_t d = 0; d < rank; d++)
    shape[d] = d < at ? first->shape[d] : d == at ? sequence->count : first->shape[d - 1];
  *out = planish_host_like(host, first, rank, shape);
  if (!*out) return PLANISH_OUT_OF_MEMORY;
  if (!(*out)->count) return PLANISH_OK;
  int64_t outer = planish_product(shape, 0, at), inner = planish_product(shape, at + 1, rank);
  planish_status status = PLANISH_OK;
  for (int64_t o = 0; o < outer && !status; o++)
    for (int64_t i = 0; i < sequence->count && !status; i++)
      status = planish_put(host, *out, sequence->items[i], o * inner, inner);
  return status;
}

PLANISH_HOST_FUNCTION(concat_from_sequence) {
  const planish_object *sequence = planish_sequence_operand(host, in, 0);
  int64_t axis = planish_int_attribute(step, "axis", 0);
  if (!sequence) return PLANISH_FAILED;
  if (!sequence->count)
    return planish_host_fail(host, PLANISH_FAILED, "expected a sequence with items, got an empty one");
  if (sequence->count > UINT32_MAX) return planish_host_no_memory(host);
  for (int64_t i = 0; i < sequence->count; i++)
    if (sequence->items[i]->kind != PLANISH_OBJECT_TENSOR && sequence->items[i]->kind != PLANISH_OBJECT_STRINGS)
      return planish_host_fail(host, PLANISH_FAILED, "item %" PRId64 ": expected a tensor", i);
  if (planish_int_attribute(step, "new_axis", 0)) return stack(host, sequence, axis, out);
  return planish_concat(host, (uint32_t)sequence->count, sequence->items, axis, out);
}

/* ---- optionals: the value itself, or the absent one ---- */
PLANISH_HOST_FUNCTION(optional_make) {
  out[0] = step->n_in && in[0] ? planish_retain(in[0]) : planish_absent_new(host->budget);
  return out[0] ? PLANISH_OK : planish_host_no_memory(host);
}

PLANISH_HOST_FUNCTION(optional_has) {
  out[0] = planish_host_bool(host, planish_maybe(step, in, 0) != NULL);
  return out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
}

PLANISH_HOST_FUNCTION(optional_get) {
  if (!planish_maybe(step, in, 0)) return planish_host_fail(host, PLANISH_FAILED, "the optional has no value");
  out[0] = planish_retain(in[0]);
  return PLANISH_OK;
}
