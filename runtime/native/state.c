/* States: what a model keeps from run to run. Each has two places in the context's memory: a run reads one and writes the
 * other, and a run that succeeds exchanges them, so that one that fails changes nothing. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "internal.h"

static size_t padded(uint64_t bytes) { return ((size_t)bytes + 63) / 64 * 64; }

static planish_slot *slot_in(const planish_context *context, int32_t index) {
  return &context->inputs[planish_open_inputs(context->model->module) + (uint32_t)index];
}

static planish_slot *slot_out(const planish_context *context, int32_t index) {
  return &context->outputs[planish_open_outputs(context->model->module) + (uint32_t)index];
}

static const planish_io_spec *spec_of(const planish_module *module, int32_t index) {
  return &module->inputs[planish_open_inputs(module) + (uint32_t)index];
}

/* Tell generated code where inputs and outputs are. */
static void point(planish_context *context) {
  const planish_module *module = context->model->module;
  for (uint32_t i = planish_open_inputs(module); i < module->n_inputs; i++)
    context->env.inputs[i] = context->inputs[i].tensor.data;
  for (uint32_t i = planish_open_outputs(module); i < module->n_outputs; i++)
    context->env.outputs[i] = context->outputs[i].tensor.data;
}

planish_status planish_make_states(planish_context *context) {
  const planish_module *module = context->model->module;
  size_t total = 0;
  if (!module->n_states) return PLANISH_OK;
  for (uint32_t i = 0; i < module->n_states; i++) total += 2 * padded(module->states[i].bytes);
  if (posix_memalign(&context->states, 64, total ? total : 64)) {
    context->states = NULL;
    return PLANISH_OUT_OF_MEMORY;
  }
  memset(context->states, 0, total);
  uint8_t *place = context->states;
  for (int32_t i = 0; i < (int32_t)module->n_states; i++) {
    const planish_io_spec *spec = spec_of(module, i);
    size_t size = padded(module->states[i].bytes);
    planish_tensor view = {place, {1, 0}, spec->rank, planish_dtype_find(spec->dtype)->dtype, (int64_t *)spec->dims,
                           NULL, 0};
    planish_fill_slot(slot_in(context, i), &view);
    view.data = place + size;
    planish_fill_slot(slot_out(context, i), &view);
    place += 2 * size;
  }
  planish_reset_states(context);
  return PLANISH_OK;
}

void planish_reset_states(planish_context *context) {
  const planish_module *module = context->model->module;
  for (int32_t i = 0; i < (int32_t)module->n_states; i++) {
    const planish_state *state = &module->states[i];
    void *data = slot_in(context, i)->tensor.data;
    if (state->initial) {
      memcpy(data, state->initial, (size_t)state->bytes);
    } else {
      memset(data, 0, (size_t)state->bytes);
    }
  }
  point(context);
}

void planish_advance_states(planish_context *context) {
  for (int32_t i = 0; i < (int32_t)context->model->module->n_states; i++) {
    planish_slot *in = slot_in(context, i), *out = slot_out(context, i);
    void *made = out->tensor.data;
    out->tensor.data = in->tensor.data;
    in->tensor.data = made;
  }
  point(context);
}

int32_t planish_state_count(const planish_model *model) { return (int32_t)model->module->n_states; }

planish_status planish_state_info(const planish_model *model, int32_t index, planish_io *io) {
  if (index < 0 || index >= planish_state_count(model)) return PLANISH_INVALID_ARGUMENT;
  return planish_describe_io(spec_of(model->module, index), io);
}

static planish_status find(planish_context *context, int32_t index) {
  int32_t count = planish_state_count(context->model);
  if (index >= 0 && index < count) return PLANISH_OK;
  return planish_say(&context->message, PLANISH_INVALID_ARGUMENT, "state: number: expected 0 to %d, got %d", count - 1,
                     index);
}

planish_status planish_get_state(planish_context *context, int32_t index, planish_tensor *tensor) {
  planish_status status = find(context, index);
  if (!status) *tensor = slot_in(context, index)->tensor;
  return status;
}

planish_status planish_set_state(planish_context *context, int32_t index, const planish_tensor *tensor) {
  planish_status status = find(context, index);
  if (!status) status = planish_check_tensor(context, "state", spec_of(context->model->module, index), tensor);
  if (status) return status;
  planish_slot *slot = slot_in(context, index);
  if (slot->bytes) memmove(slot->tensor.data, (const uint8_t *)tensor->data + tensor->byte_offset, (size_t)slot->bytes);
  return PLANISH_OK;
}
