/* The immutable model: what it is called, what it takes and gives, and whether this CPU can run it. */
#include <string.h>

#include "internal.h"

uint32_t planish_api_version(void) { return PLANISH_API_VERSION; }

planish_status planish_open_checked(const planish_model *candidates, uint32_t count, const planish_model **model,
                                    planish_message *message) {
  uint32_t version = candidates->module->abi_version;
  *model = NULL;
  if (version != PLANISH_ABI_VERSION)
    return planish_say(message, PLANISH_VERSION_MISMATCH,
                       "this artifact's code has interface version %u, its runtime has %u: compile the model again",
                       version, PLANISH_ABI_VERSION);
  for (const planish_model *candidate = candidates; candidate < candidates + count; candidate++) {
    const planish_module *module = candidate->module;
    bool last = candidate + 1 == candidates + count; /* its message is the one that helps: it needs least */
    planish_status status = planish_check_cpu(module->features, module->n_features, last ? message : NULL);
    if (status == PLANISH_OK) *model = candidate;
    if (status == PLANISH_OK || last) return status;
  }
  return PLANISH_UNSUPPORTED_CPU;
}

planish_status planish_model_open(const planish_model **model, planish_message *message) {
  return planish_open_checked(planish_artifact_models, planish_artifact_levels, model, message);
}

const char *planish_model_name(const planish_model *model) { return model->name; }
int32_t planish_input_count(const planish_model *model) { return (int32_t)planish_open_inputs(model->module); }
int32_t planish_output_count(const planish_model *model) { return (int32_t)planish_open_outputs(model->module); }
int32_t planish_symbol_count(const planish_model *model) { return (int32_t)model->module->n_symbols; }

planish_status planish_describe_io(const planish_io_spec *spec, planish_io *io) {
  const planish_dtype_info *type = planish_dtype_find(spec->dtype);
  io->name = spec->name;
  io->dtype_name = spec->dtype;
  io->dtype = type ? type->dtype : (planish_dtype){3, 64, 1}; /* 3: opaque */
  io->rank = spec->rank;
  io->dims = spec->dims;
  return PLANISH_OK;
}

static planish_status describe(const planish_io_spec *specs, uint32_t count, int32_t index, planish_io *io) {
  if (index < 0 || (uint32_t)index >= count) return PLANISH_INVALID_ARGUMENT;
  return planish_describe_io(&specs[index], io);
}

planish_status planish_input_info(const planish_model *model, int32_t index, planish_io *io) {
  return describe(model->module->inputs, planish_open_inputs(model->module), index, io);
}

planish_status planish_output_info(const planish_model *model, int32_t index, planish_io *io) {
  return describe(model->module->outputs, planish_open_outputs(model->module), index, io);
}

const char *planish_symbol_name(const planish_model *model, int32_t index) {
  return index >= 0 && (uint32_t)index < model->module->n_symbols ? model->module->symbols[index] : NULL;
}

int32_t planish_find(const planish_io_spec *specs, uint32_t count, const char *name) {
  for (uint32_t i = 0; i < count; i++)
    if (!strcmp(specs[i].name, name)) return (int32_t)i;
  return -1;
}

int32_t planish_find_input(const planish_model *model, const char *name) {
  return planish_find(model->module->inputs, planish_open_inputs(model->module), name);
}

int32_t planish_find_output(const planish_model *model, const char *name) {
  return planish_find(model->module->outputs, planish_open_outputs(model->module), name);
}

const char *planish_model_manifest(const planish_model *model, uint64_t *bytes) {
  *bytes = model->module->manifest_bytes;
  return model->module->manifest;
}
