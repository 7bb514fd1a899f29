/* What generated code calls: parallel ranges and the reporting of failures. */
#include <inttypes.h>

#include "internal.h"

/* Generated code and runtime/_native.py know these layouts. */
_Static_assert(offsetof(planish_env, weights) == 8 && offsetof(planish_env, symbols) == 32 &&
                   offsetof(planish_env, scratch_stride) == 48 && sizeof(planish_env) == 64,
               "planish_env");
_Static_assert(sizeof(planish_io_spec) == 32 && sizeof(planish_selftest_sample) == 24, "planish_io_spec, sample");
_Static_assert(offsetof(planish_module, run) == 40 && offsetof(planish_module, features) == 80 &&
                   offsetof(planish_module, selftest) == 112 && offsetof(planish_module, variants) == 128 &&
                   offsetof(planish_module, check) == 168 && offsetof(planish_module, ranges) == 192 &&
                   sizeof(planish_module) == 208 && sizeof(planish_state) == 16 && sizeof(planish_symbol_range) == 24 &&
                   sizeof(planish_refusal) == 16 && sizeof(planish_binding) == 24 && sizeof(planish_check) == 40,
               "planish_module");
_Static_assert(sizeof(planish_step) == 72 && offsetof(planish_step, target) == 32 && sizeof(planish_plan) == 40 &&
                   sizeof(planish_attribute) == 32 && sizeof(planish_constant) == 48,
               "planish_plan");
_Static_assert(sizeof(planish_tensor) == 48 && offsetof(planish_tensor, shape) == 24 &&
                   offsetof(planish_managed_tensor, tensor) == 32,
               "DLPack");

typedef struct range {
  planish_env *env;
  planish_task task;
  void *const *buffers;
  const int64_t *args;
  int64_t count;
  int32_t parts;
  atomic_int status;
} range;

/* Where part `index` of `parts` equal parts of [0, count) begins; exact for every count. */
static int64_t boundary(int64_t count, int32_t parts, int32_t index) {
  int64_t each = count / parts, more = count % parts;
  return each * index + (index < more ? index : more);
}

static void run_part(void *data, int32_t index) {
  range *r = data;
  int64_t begin = boundary(r->count, r->parts, index), end = boundary(r->count, r->parts, index + 1);
  int32_t status = r->task(r->env, r->buffers, r->args, begin, end, index);
  int expected = 0;
  if (status) atomic_compare_exchange_strong(&r->status, &expected, status);
}

/* Claim the context's error; false if another failure came first. */
static bool first_failure(planish_context *context, int status) {
  int none = 0;
  return atomic_compare_exchange_strong(&context->failed, &none, status);
}

int32_t planish_parallel(planish_env *env, planish_task task, void *const *buffers, const int64_t *args, int64_t count,
                         int64_t grain) {
  planish_context *context = (planish_context *)env;
  if (atomic_load_explicit(&context->control->armed, memory_order_relaxed)) {
    planish_message why;
    planish_status status = planish_look_at_limits(context->control, &why);
    if (status && first_failure(context, status)) context->message = why;
    if (status) return status;
  }
  if (count <= 0) return 0;
  int64_t parts = count / (grain < 1 ? 1 : grain);
  if (parts > context->threads) parts = context->threads;
  if (parts <= 1) return task(env, buffers, args, 0, count, 0);
  range r = {env, task, buffers, args, count, (int32_t)parts, 0};
  context->pool->run(context->pool, run_part, &r, r.parts);
  return atomic_load(&r.status);
}

const char *planish_node_name(const planish_context *context, int32_t node, planish_quoted *buffer) {
  const planish_module *module = context->module;
  return planish_quote(buffer, node >= 0 && (uint32_t)node < module->n_nodes ? module->nodes[node] : "unknown");
}

int32_t planish_fail_index(planish_env *env, int32_t node, int64_t value, int64_t lo, int64_t hi) {
  planish_context *context = (planish_context *)env;
  planish_quoted name;
  if (!first_failure(context, PLANISH_INDEX_OUT_OF_RANGE)) return PLANISH_INDEX_OUT_OF_RANGE;
  return planish_say(&context->message, PLANISH_INDEX_OUT_OF_RANGE,
                     "node %s: index: expected %" PRId64 " to %" PRId64 ", got %" PRId64,
                     planish_node_name(context, node, &name), lo, hi - 1, value);
}

int32_t planish_fail(planish_env *env, int32_t node, int32_t code) {
  static const char *const texts[] = {"failed", "internal error in the compiled code", "out of memory",
                                      "shapes that became known during the run do not fit together",
                                      "the result is not defined for these values"};
  planish_context *context = (planish_context *)env;
  planish_quoted name;
  int32_t status = code == PLANISH_FAIL_MEMORY ? PLANISH_OUT_OF_MEMORY : PLANISH_FAILED;
  if (!first_failure(context, status)) return status;
  int32_t known = code > 0 && code < (int32_t)(sizeof texts / sizeof *texts) ? code : 0;
  return planish_say(&context->message, status, "node %s: %s (code %d)", planish_node_name(context, node, &name),
                     texts[known], code);
}
