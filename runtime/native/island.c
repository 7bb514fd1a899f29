/* Islands: the compiled parts of a plan. Each runs in a context of its own inside the plan's, kept for the next run; all
 * share one arena, since only one runs at a time. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "host.h"

typedef struct island {
  planish_model model;
  planish_context *context;
} island;

static void destroy_island(void *value) {
  island *i = value;
  planish_context_destroy(i->context);
  free(i);
}

static island *get_island(planish_host *host, const planish_module *module) {
  planish_context *outer = host->context;
  island *found = planish_find_kept(host, module);
  if (found) return found;
  found = calloc(1, sizeof *found);
  if (!found) {
    planish_host_no_memory(host);
    return NULL;
  }
  found->model = (planish_model){outer->model->abi_version, module, outer->model->weights, outer->model->name};
  planish_message message;
  if (planish_context_create(&found->model, outer->pool, outer->threads, &found->context, &message)) {
    free(found);
    planish_host_fail(host, PLANISH_OUT_OF_MEMORY, "%s", message.text);
    return NULL;
  }
  found->context->memory = outer->memory;
  found->context->control = outer->control;
  return planish_keep(host, module, found, destroy_island) ? found : NULL;
}

/* What the island said, with the step's node in front unless it names one itself. */
static planish_status pass_on(planish_host *host, const island *i, planish_status status) {
  const char *text = i->context->message.text;
  if (strncmp(text, "node ", 5)) return planish_host_fail(host, status, "%s", text);
  host->context->message = i->context->message;
  return status;
}

static planish_status set_inputs(planish_host *host, island *i, planish_object *const *in) {
  planish_status status = PLANISH_OK;
  for (uint32_t k = 0; k < i->model.module->n_inputs && !status; k++) {
    if (!in[k] || in[k]->kind != PLANISH_OBJECT_TENSOR)
      return planish_host_fail(host, PLANISH_FAILED, "operand %u: expected a tensor, got %s", k,
                               planish_is_absent(in[k]) ? "nothing" : "a value of another kind");
    planish_tensor tensor = {in[k]->data, {1, 0}, in[k]->rank, in[k]->dtype, (int64_t *)(uintptr_t)in[k]->shape,
                             NULL,        0};
    status = planish_set_input(i->context, (int32_t)k, &tensor);
  }
  if (!status) status = planish_infer_shapes(i->context);
  return status ? pass_on(host, i, status) : PLANISH_OK;
}

static planish_status make_outputs(planish_host *host, island *i, planish_object **out) {
  const planish_module *module = i->context->module;
  planish_status status = PLANISH_OK;
  for (uint32_t k = 0; k < module->n_outputs && !status; k++) {
    const int64_t *shape = planish_output_shape(i->context, (int32_t)k);
    out[k] = planish_host_tensor(host, module->outputs[k].dtype, module->outputs[k].rank, shape);
    if (!out[k]) return PLANISH_OUT_OF_MEMORY;
    planish_tensor tensor = {out[k]->data, {1, 0}, out[k]->rank, out[k]->dtype, (int64_t *)(uintptr_t)out[k]->shape,
                             NULL,         0};
    status = planish_set_output(i->context, (int32_t)k, &tensor);
  }
  return status ? pass_on(host, i, status) : PLANISH_OK;
}

planish_status planish_run_island(planish_host *host, planish_object *const *in, planish_object **out) {
  const planish_module *module = host->step->target;
  if (module->n_inputs != host->step->n_in || module->n_outputs != host->step->n_out)
    return planish_host_fail(host, PLANISH_FAILED, "the island does not fit: internal error");
  island *i = get_island(host, module);
  if (!i) return PLANISH_OUT_OF_MEMORY;
  planish_status status = set_inputs(host, i, in);
  if (!status) status = make_outputs(host, i, out);
  if (status) return status;
  status = planish_invoke(i->context);
  return status ? pass_on(host, i, status) : PLANISH_OK;
}
