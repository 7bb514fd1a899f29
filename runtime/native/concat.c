/* Concatenation of tensors or strings: what several host functions share. */
#define _GNU_SOURCE
#include <string.h>

#include "host.h"

planish_status planish_concat(planish_host *host, uint32_t count, planish_object *const *x, int64_t axis,
                              planish_object **out) {
  int64_t shape[PLANISH_MAX_RANK], total = 0;
  planish_shape_text one, other;
  int32_t at = planish_axis(host, axis, x[0]->rank);
  if (at < 0) return PLANISH_FAILED;
  for (uint32_t k = 0; k < count; k++) {
    bool same =
        x[k]->kind == x[0]->kind && x[k]->rank == x[0]->rank && !memcmp(&x[k]->dtype, &x[0]->dtype, sizeof x[0]->dtype);
    for (int32_t d = 0; same && d < x[0]->rank; d++) same = d == at || x[k]->shape[d] == x[0]->shape[d];
    if (!same || __builtin_add_overflow(total, x[k]->shape[at], &total))
      return planish_host_fail(host, PLANISH_FAILED, "concatenation along axis %d: %s does not fit behind %s", at,
                               planish_show_shape(&other, x[k]->rank, x[k]->shape),
                               planish_show_shape(&one, x[0]->rank, x[0]->shape));
  }
  memcpy(shape, x[0]->shape, (size_t)x[0]->rank * sizeof *shape);
  shape[at] = total;
  *out = planish_host_like(host, x[0], x[0]->rank, shape);
  if (!*out) return PLANISH_OUT_OF_MEMORY;
  if (!(*out)->count) return PLANISH_OK;
  int64_t outer = planish_product(shape, 0, at), inner = planish_product(shape, at + 1, x[0]->rank);
  planish_status status = PLANISH_OK;
  for (int64_t i = 0; i < outer && !status; i++)
    for (uint32_t k = 0; k < count && !status; k++)
      status = planish_put(host, *out, x[k], i * x[k]->shape[at] * inner, x[k]->shape[at] * inner);
  return status;
}
