/* Binding tensors to inputs and outputs, with one clear message when they do not fit. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "object.h"

static void describe_dtype(char *text, size_t size, planish_dtype dtype) {
  const planish_dtype_info *info = planish_dtype_of(dtype);
  if (info) {
    snprintf(text, size, "%s", info->name);
  } else {
    snprintf(text, size, "DLPack type code %u of %u bits, %u lanes", dtype.code, dtype.bits, dtype.lanes);
  }
}

static void describe_dims(char *text, size_t size, const planish_module *module, int32_t rank, const int64_t *dims) {
  size_t used = (size_t)snprintf(text, size, rank < 0 ? "[*" : "[");
  for (int32_t d = 0; d < rank && used + 60 < size; d++) {
    const char *comma = d ? "," : "";
    planish_quoted quoted;
    if (dims[d] >= 0) {
      used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, comma, dims[d]);
    } else {
      const char *name = planish_quote(&quoted, module->symbols[-(dims[d] + 1)]) + 1; /* without the quotes */
      used += (size_t)snprintf(text + used, size - used, "%s%.*s", comma,
                               (int)(strlen(name) < 40 ? strlen(name) - 1 : 40), name);
    }
  }
  if (used + 2 <= size) memcpy(text + used, "]", 2);
}

bool planish_is_row_major(const planish_tensor *tensor) {
  int64_t expected = 1;
  if (!tensor->strides) return true;
  for (int32_t d = 0; d < tensor->ndim; d++)
    if (tensor->shape[d] == 0) return true;
  for (int32_t d = tensor->ndim - 1; d >= 0; d--) {
    if (tensor->shape[d] != 1 && tensor->strides[d] != expected) return false;
    expected *= tensor->shape[d];
  }
  return true;
}

uintptr_t planish_alignment_of(planish_dtype dtype) {
  return dtype.bits < 8 ? 1 : dtype.bits / (dtype.code == 5 ? 16u : 8u); /* complex: two numbers */
}

planish_status planish_check_shape(planish_context *context, const char *what, const planish_io_spec *spec,
                                   const planish_tensor *tensor) {
  char expected[256], got[256];
  planish_quoted name;
  bool fits = spec->rank < 0 ? tensor->ndim >= 0 && tensor->ndim <= PLANISH_MAX_RANK : tensor->ndim == spec->rank;
  for (int32_t d = 0; fits && d < spec->rank; d++)
    fits = tensor->shape[d] >= 0 && (spec->dims[d] < 0 || spec->dims[d] == tensor->shape[d]);
  if (fits) return PLANISH_OK;
  if (tensor->ndim < 0 || tensor->ndim > PLANISH_MAX_RANK)
    return planish_say(&context->message, PLANISH_INVALID_ARGUMENT, "%s %s: rank: expected %s%d, got %d", what,
                       planish_quote(&name, spec->name), spec->rank < 0 ? "0 to " : "",
                       spec->rank < 0 ? PLANISH_MAX_RANK : spec->rank, tensor->ndim);
  describe_dims(expected, sizeof expected, context->model->module, spec->rank, spec->dims);
  size_t used = (size_t)snprintf(got, sizeof got, "[");
  for (int32_t d = 0; d < tensor->ndim && used + 30 < sizeof got; d++)
    used += (size_t)snprintf(got + used, sizeof got - used, "%s%" PRId64, d ? "," : "", tensor->shape[d]);
  return planish_say(&context->message, PLANISH_INVALID_ARGUMENT, "%s %s: shape: expected %s, got %s]", what,
                     planish_quote(&name, spec->name), expected, got);
}

planish_status planish_check_tensor(planish_context *context, const char *what, const planish_io_spec *spec,
                                    const planish_tensor *tensor) {
  const planish_dtype_info *type = planish_dtype_find(spec->dtype);
  planish_message *message = &context->message;
  planish_quoted quoted;
  const char *name = planish_quote(&quoted, spec->name);
  if (tensor->device.type != 1)
    return planish_say(message, PLANISH_INVALID_ARGUMENT, "%s %s: device: expected the CPU (1), got DLPack device %d",
                       what, name, tensor->device.type);
  if (!planish_is_tensor_type(spec->dtype))
    return planish_say(message, PLANISH_INVALID_ARGUMENT, "%s %s: kind: expected %.80s, got a tensor%s", what, name,
                       spec->dtype, *what == 'i' ? "; use planish_set_input_value" : "");
  if (!type || memcmp(&tensor->dtype, &type->dtype, sizeof type->dtype)) {
    char got[80];
    describe_dtype(got, sizeof got, tensor->dtype);
    return planish_say(message, PLANISH_INVALID_ARGUMENT, "%s %s: type: expected %s, got %s", what, name, spec->dtype,
                       got);
  }
  planish_status status = planish_check_shape(context, what, spec, tensor);
  if (status) return status;
  int64_t bytes = planish_tensor_bytes(type->dtype, tensor->ndim, tensor->shape);
  if (bytes < 0) return planish_say(message, PLANISH_INVALID_ARGUMENT, "%s %s: too large", what, name);
  if (!planish_is_row_major(tensor))
    return planish_say(message, PLANISH_INVALID_ARGUMENT, "%s %s: strides: expected row-major order; copy it", what,
                       name);
  if (bytes && !tensor->data)
    return planish_say(message, PLANISH_INVALID_ARGUMENT, "%s %s: data: expected a pointer, got NULL", what, name);
  uintptr_t size = planish_alignment_of(type->dtype);
  if (((uintptr_t)tensor->data + tensor->byte_offset) % size)
    return planish_say(message, PLANISH_INVALID_ARGUMENT, "%s %s: data: expected an address that is a multiple of %d",
                       what, name, (int)size);
  return PLANISH_OK;
}

void planish_fill_slot(planish_slot *slot, const planish_tensor *tensor) {
  int64_t *shape = slot->shape;
  if (tensor->ndim) memcpy(shape, tensor->shape, (size_t)tensor->ndim * sizeof *shape);
  slot->tensor = *tensor;
  slot->tensor.data = (uint8_t *)tensor->data + tensor->byte_offset;
  slot->tensor.byte_offset = 0;
  slot->tensor.shape = shape;
  slot->tensor.strides = NULL;
  slot->bytes = planish_tensor_bytes(tensor->dtype, tensor->ndim, shape);
  slot->bound = true;
}

static planish_status no_such(planish_context *context, const char *what, uint32_t count, int32_t index) {
  return planish_say(&context->message, PLANISH_INVALID_ARGUMENT, "%s: number: expected 0 to %d, got %d", what,
                     (int)count - 1, index);
}

planish_status planish_set_input(planish_context *context, int32_t index, const planish_tensor *tensor) {
  const planish_module *module = context->model->module;
  if (index < 0 || (uint32_t)index >= planish_open_inputs(module))
    return no_such(context, "input", planish_open_inputs(module), index);
  planish_status status = planish_check_rank(module, index, tensor->ndim, &context->message);
  if (!status) status = planish_check_tensor(context, "input", &module->inputs[index], tensor);
  if (status) return status;
  planish_slot *slot = &context->inputs[index];
  bool same_shape = slot->bound && slot->tensor.ndim == tensor->ndim;
  for (int32_t d = 0; same_shape && d < tensor->ndim; d++) same_shape = slot->shape[d] == tensor->shape[d];
  planish_release(slot->object);
  slot->object = NULL;
  planish_fill_slot(slot, tensor);
  context->env.inputs[index] = slot->tensor.data;
  /* What a plan gave before says nothing of what it gives now; nor do numbers that decide sizes. */
  if (!same_shape || module->plan || context->module->plan || module->n_variants) context->inferred = false;
  /* With the context's own outputs nothing has to be sized or checked again. */
  for (uint32_t i = 0; same_shape && i < planish_open_outputs(module); i++) same_shape = !context->outputs[i].bound;
  if (!same_shape) context->prepared = false;
  return PLANISH_OK;
}

planish_status planish_set_output(planish_context *context, int32_t index, const planish_tensor *tensor) {
  const planish_module *module = context->model->module;
  if (index < 0 || (uint32_t)index >= planish_open_outputs(module))
    return no_such(context, "output", planish_open_outputs(module), index);
  planish_slot *slot = &context->outputs[index];
  context->prepared = false;
  if (!tensor) {
    slot->bound = false;
    return PLANISH_OK;
  }
  planish_status status = planish_check_tensor(context, "output", &module->outputs[index], tensor);
  if (status) return status;
  planish_charge(&context->control->budget, -slot->capacity);
  free(slot->owned);
  slot->owned = NULL;
  slot->capacity = 0;
  planish_fill_slot(slot, tensor);
  return PLANISH_OK;
}

int32_t planish_output_rank(const planish_context *context, int32_t index) {
  const planish_module *module = context->module;
  if (!context->inferred || index < 0 || (uint32_t)index >= module->n_outputs) return -1;
  return module->plan && context->outputs[index].object ? context->outputs[index].tensor.ndim
                                                        : module->outputs[index].rank;
}

/* The shape of a plan's output: what came out, or what the symbols that the inputs bind say; then it has a place of its
 * own, as the caller may still have memory of another shape bound. */
static const int64_t *plan_shape(const planish_context *context, int32_t index) {
  const planish_io_spec *spec = &context->module->outputs[index];
  const planish_slot *slot = &context->outputs[index];
  if (slot->object || (slot->bound && context->prepared)) return slot->tensor.ndim < 0 ? NULL : slot->shape;
  if (spec->rank < 0) return NULL;
  int64_t *dims = context->sizes + 2;
  for (int32_t i = 0; i < index; i++) {
    int32_t rank = context->module->outputs[i].rank;
    dims += rank < 0 ? PLANISH_MAX_RANK : rank;
  }
  for (int32_t d = 0; d < spec->rank; d++)
    dims[d] = spec->dims[d] >= 0 ? spec->dims[d] : context->symbols[-(spec->dims[d] + 1)];
  return dims;
}

const int64_t *planish_output_shape(const planish_context *context, int32_t index) {
  const planish_module *module = context->module;
  if (!context->inferred || index < 0 || (uint32_t)index >= module->n_outputs) return NULL;
  if (module->plan) return plan_shape(context, index);
  const int64_t *dims = context->sizes + 2;
  for (int32_t i = 0; i < index; i++) dims += module->outputs[i].rank;
  return dims;
}

planish_status planish_get_output(planish_context *context, int32_t index, planish_tensor *tensor) {
  const planish_module *module = context->model->module;
  planish_quoted name;
  if (index < 0 || (uint32_t)index >= planish_open_outputs(module))
    return no_such(context, "output", planish_open_outputs(module), index);
  if (!context->prepared)
    return planish_say(&context->message, PLANISH_NOT_READY,
                       "outputs: the model has not been run on what is bound now");
  if (context->outputs[index].tensor.ndim < 0)
    return planish_say(&context->message, PLANISH_INVALID_ARGUMENT,
                       "output %s: kind: expected a tensor, got %.80s; use planish_get_output_value",
                       planish_quote(&name, module->outputs[index].name), module->outputs[index].dtype);
  *tensor = context->outputs[index].tensor;
  return PLANISH_OK;
}

static void delete_taken(planish_managed_tensor *self) {
  if (self->manager) free(self->tensor.data);
  free(self);
}

/* A managed tensor with its shape, and room for `bytes` of data, behind it. */
static planish_managed_tensor *make_taken(const planish_tensor *view, int64_t bytes) {
  size_t shape_bytes = ((size_t)view->ndim * sizeof(int64_t) + 63) / 64 * 64,
         head = (sizeof(planish_managed_tensor) + 63) / 64 * 64;
  void *memory = NULL;
  if (posix_memalign(&memory, 64, head + shape_bytes + (size_t)bytes + 64)) return NULL;
  planish_managed_tensor *taken = memory;
  memset(taken, 0, sizeof *taken);
  taken->version.major = 1;
  taken->deleter = delete_taken;
  taken->tensor = *view;
  taken->tensor.shape = (int64_t *)(void *)((uint8_t *)memory + head);
  if (view->ndim) memcpy(taken->tensor.shape, view->shape, (size_t)view->ndim * sizeof(int64_t));
  if (bytes) memcpy((uint8_t *)memory + head + shape_bytes, view->data, (size_t)bytes);
  return taken;
}

planish_status planish_take_output(planish_context *context, int32_t index, planish_managed_tensor **tensor) {
  planish_tensor view;
  *tensor = NULL;
  planish_status status = planish_get_output(context, index, &view);
  if (status) return status;
  planish_slot *slot = &context->outputs[index];
  if (slot->bound)
    return planish_say(&context->message, PLANISH_INVALID_ARGUMENT, "output %d: it is in the caller's own memory",
                       index);
  /* What a plan made is copied: others may hold it. */
  planish_managed_tensor *taken = make_taken(&view, slot->object ? slot->bytes : 0);
  if (!taken) return planish_say(&context->message, PLANISH_OUT_OF_MEMORY, "output %d: out of memory", index);
  if (slot->object) {
    taken->tensor.data = (uint8_t *)taken->tensor.shape + ((size_t)view.ndim * sizeof(int64_t) + 63) / 64 * 64;
  } else {
    taken->manager = taken; /* the data is a block of its own */
    planish_charge(&context->control->budget, -slot->capacity);
    slot->owned = NULL;
    slot->capacity = 0;
    context->prepared = false;
  }
  *tensor = taken;
  return PLANISH_OK;
}

/* The number that a value of planish_run stands for, or -1 after having said why. */
static int32_t resolve(planish_context *context, const char *what, const planish_io_spec *specs, uint32_t count,
                       const planish_value *value, int32_t place) {
  planish_quoted name;
  int32_t index = value->name ? planish_find(specs, count, value->name) : place;
  if (index >= 0 && (uint32_t)index < count) return index;
  if (value->name) {
    planish_say(&context->message, PLANISH_INVALID_ARGUMENT, "%s %s: the model has no %s of this name", what,
                planish_quote(&name, value->name), what);
  } else {
    no_such(context, what, count, place);
  }
  return -1;
}

planish_status planish_run(planish_context *context, const planish_value *inputs, int32_t n_inputs,
                           planish_value *outputs, int32_t n_outputs) {
  const planish_module *module = context->model->module;
  planish_status status = PLANISH_OK;
  for (int32_t i = 0; i < n_inputs && !status; i++) {
    int32_t index = resolve(context, "input", module->inputs, planish_open_inputs(module), &inputs[i], i);
    status = index < 0 ? PLANISH_INVALID_ARGUMENT : planish_set_input_value(context, index, &inputs[i]);
  }
  for (int32_t i = 0; i < n_outputs && !status; i++) {
    int32_t index = resolve(context, "output", module->outputs, planish_open_outputs(module), &outputs[i], i);
    if (index < 0) return PLANISH_INVALID_ARGUMENT;
    bool given = outputs[i].kind == PLANISH_TENSOR && outputs[i].as.tensor.data;
    status = planish_set_output(context, index, given ? &outputs[i].as.tensor : NULL);
  }
  if (!status) status = planish_invoke(context);
  for (int32_t i = 0; i < n_outputs && !status; i++) {
    int32_t index = resolve(context, "output", module->outputs, planish_open_outputs(module), &outputs[i], i);
    if (outputs[i].kind != PLANISH_TENSOR) status = planish_get_output_value(context, index, &outputs[i]);
    else if (!outputs[i].as.tensor.data) status = planish_get_output(context, index, &outputs[i].as.tensor);
  }
  return status;
}
