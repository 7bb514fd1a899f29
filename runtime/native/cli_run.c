/* APP run and APP self-test. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

static planish_tensor as_tensor(planish_array *array) {
  return (planish_tensor){array->data, {1, 0}, array->rank, array->dtype, array->shape, NULL, 0};
}

static bool missing_inputs(const planish_model *model, const planish_options *options, const planish_arrays *arrays) {
  char text[900] = "missing inputs:", shape[200];
  size_t used = strlen(text), before = used;
  for (int32_t i = 0; i < planish_input_count(model) && used + 400 < sizeof text; i++) {
    planish_io io;
    planish_quoted name;
    planish_input_info(model, i, &io);
    if (planish_cli_has_input(&io, arrays)) continue;
    planish_cli_describe(model, &io, shape, sizeof shape);
    used += (size_t)snprintf(text + used, sizeof text - used, "%s %s (%s)", used > before ? "," : "",
                             planish_quote(&name, io.name), shape);
  }
  if (used == before) return false;
  snprintf(text + used, sizeof text - used, "; give them with --input NAME=FILE.npy or --inputs FILE.npz");
  planish_cli_fail(options, text);
  return true;
}

static bool bind_tensor(planish_context *context, const planish_model *model, const planish_options *options,
                        int32_t index, planish_array *array) {
  planish_message message;
  planish_tensor tensor = as_tensor(array);
  planish_io io;
  planish_quoted name;
  planish_input_info(model, index, &io);
  if (array->is_text) {
    planish_say(&message, PLANISH_OK, "input %s: type: expected %s, got texts", planish_quote(&name, io.name),
                io.dtype_name);
    return planish_cli_fail(options, message.text), false;
  }
  if (!planish_set_input(context, index, &tensor)) return true;
  const planish_dtype_info *wanted = planish_dtype_of(io.dtype);
  bool raw = wanted && !wanted->npy && memcmp(&io.dtype, &tensor.dtype, sizeof io.dtype);
  planish_say(&message, PLANISH_OK, "%s%s%s", planish_context_error(context),
              raw ? "; its raw bits are given under the name NAME:" : "", raw ? wanted->name : "");
  return planish_cli_fail(options, message.text), false;
}

static bool bind(planish_context *context, const planish_model *model, const planish_options *options,
                 const planish_arrays *arrays) {
  planish_message message;
  planish_quoted name;
  for (int32_t i = 0; i < arrays->count; i++) {
    planish_array *array = &arrays->items[i];
    int32_t index = planish_find_input(model, array->name);
    if (index >= 0 && planish_is_tensor_type(model->module->inputs[index].dtype)) {
      if (!bind_tensor(context, model, options, index, array)) return false;
    } else if (!planish_cli_belongs(model, array->name)) {
      planish_say(&message, PLANISH_INVALID_ARGUMENT, "the model has no input %s; %s info lists its inputs",
                  planish_quote(&name, array->name), options->program);
      return planish_cli_fail(options, message.text), false;
    }
  }
  for (int32_t i = 0; i < planish_input_count(model); i++) {
    planish_io io;
    planish_input_info(model, i, &io);
    if (planish_is_tensor_type(io.dtype_name) || !planish_cli_has_input(&io, arrays)) continue;
    if (planish_cli_bind_value(context, i, &io, arrays, &message))
      return planish_cli_fail(options, message.text), false;
  }
  return true;
}

planish_context *planish_cli_context(const planish_model *model, const planish_options *options,
                                     const planish_arrays *arrays) {
  planish_message message;
  planish_context *context;
  if (planish_context_create(model, NULL, options->threads, &context, &message)) {
    planish_cli_fail(options, message.text);
    return NULL;
  }
  if (bind(context, model, options, arrays) && !missing_inputs(model, options, arrays)) return context;
  planish_context_destroy(context);
  return NULL;
}

static void print_summary(const char *name, const planish_tensor *tensor) {
  int64_t count = planish_element_count(tensor->ndim, tensor->shape);
  planish_quoted quoted;
  printf("%s %s[", planish_quote(&quoted, name), planish_dtype_of(tensor->dtype)->name);
  for (int32_t d = 0; d < tensor->ndim; d++) printf("%s%" PRId64, d ? "," : "", tensor->shape[d]);
  printf("]");
  for (int64_t i = 0; i < count && i < 8; i++) printf(" %.6g", planish_element(tensor->dtype, tensor->data, i));
  printf("%s\n", count > 8 ? " ..." : "");
}

bool planish_cli_expect(const planish_model *model, planish_context *context, planish_arrays *arrays) {
  int32_t count = planish_output_count(model);
  if (planish_infer_shapes(context) || context->module->plan) return false;
  arrays->items = calloc((size_t)count + 1, sizeof *arrays->items);
  if (!arrays->items) return false;
  for (int32_t i = 0; i < count; i++) {
    planish_array *array = &arrays->items[arrays->count++];
    planish_io io;
    planish_output_info(model, i, &io);
    const int64_t *shape = planish_output_shape(context, i);
    array->name = strdup(io.name);
    array->dtype = io.dtype;
    array->rank = planish_output_rank(context, i);
    if (!array->name || array->rank < 0 || (array->rank && !shape)) return false;
    if (array->rank) memcpy(array->shape, shape, (size_t)array->rank * sizeof *shape);
    array->bytes = planish_tensor_bytes(array->dtype, array->rank, array->shape);
    if (array->bytes < 0) return false;
  }
  return true;
}

bool planish_cli_direct(planish_context *context, const planish_options *options, int32_t index, planish_array *array) {
  planish_tensor tensor = as_tensor(array);
  return !planish_set_output(context, index, &tensor) || !planish_cli_fail(options, planish_context_error(context));
}

/* The file of the outputs, and the outputs bound to their places in it. *file NULL: they must be written after the run.
 * False after having said why. */
static bool prepare_file(const planish_model *model, planish_context *context, const planish_options *options,
                         planish_npz **file) {
  planish_message message;
  planish_arrays arrays = {NULL, 0};
  bool direct = options->output && planish_cli_expect(model, context, &arrays), good = true;
  for (int32_t i = 0; i < arrays.count && direct; i++) direct = arrays.items[i].dtype.bits % 8 == 0;
  *file = NULL;
  if (direct && planish_npz_create(options->output, arrays.items, arrays.count, file, &message))
    good = !planish_cli_fail(options, message.text);
  for (int32_t i = 0; i < arrays.count && *file && good; i++) {
    arrays.items[i].data = planish_npz_data(*file, i);
    good = planish_cli_direct(context, options, i, &arrays.items[i]);
    arrays.items[i].data = NULL; /* the file's */
  }
  planish_arrays_free(&arrays);
  return good;
}

static int write_outputs(const planish_model *model, planish_context *context, const planish_options *options) {
  planish_message message;
  planish_arrays arrays = {NULL, 0};
  int status = 0;
  for (int32_t i = 0; i < planish_output_count(model) && !status; i++) {
    planish_value value;
    planish_io io;
    planish_output_info(model, i, &io);
    if (planish_get_output_value(context, i, &value))
      status = planish_cli_fail(options, planish_context_error(context));
    else if (!options->output && value.kind == PLANISH_TENSOR) print_summary(io.name, &value.as.tensor);
    else if (!options->output) planish_cli_print_value(io.name, &value);
    else if (!planish_cli_flatten(io.name, &value, &arrays)) status = planish_cli_fail(options, "out of memory");
  }
  if (!status && options->output && planish_npz_save(options->output, arrays.items, arrays.count, &message))
    status = planish_cli_fail(options, message.text);
  planish_cli_free_flat(&arrays);
  return status;
}

int planish_cli_run(const planish_model *model, const planish_options *options) {
  planish_message message;
  planish_npz *file = NULL;
  planish_context *context = planish_cli_context(model, options, &options->inputs);
  if (!context) return 1;
  int status = !prepare_file(model, context, options, &file);
  if (!status && planish_invoke(context)) status = planish_cli_fail(options, planish_context_error(context));
  if (file && planish_npz_close(file, !status, &message)) status = planish_cli_fail(options, message.text);
  else if (!file && !status) status = write_outputs(model, context, options);
  planish_context_destroy(context);
  return status;
}

bool planish_cli_complete(const planish_model *model, const planish_options *options, planish_arrays *given) {
  int32_t count = planish_input_count(model);
  planish_message message;
  planish_array *all = realloc(given->items, ((size_t)given->count + (size_t)count + 1) * sizeof *all);
  if (!all) return planish_cli_fail(options, "out of memory"), false;
  given->items = all;
  for (int32_t i = 0, before = given->count; i < count; i++) {
    bool found = false;
    for (int32_t k = 0; k < before; k++) found |= planish_find_input(model, all[k].name) == i;
    if (found) continue;
    planish_io io;
    planish_input_info(model, i, &io);
    if (planish_cli_has_input(&io, given)) continue; /* a sequence in parts, an optional */
    all[given->count] = (planish_array){0};
    planish_status status = planish_seeded_input(model->module, i, &all[given->count++], &message);
    if (status) return planish_cli_fail(options, message.text), false;
  }
  return true;
}

static int check_outputs(const planish_model *model, planish_context *context, const planish_options *options) {
  planish_message message;
  for (int32_t i = 0; i < planish_output_count(model); i++) {
    planish_tensor tensor;
    if (planish_get_output(context, i, &tensor)) continue; /* not a tensor */
    if (planish_check_output(model->module, i, &tensor, &message)) return planish_cli_fail(options, message.text);
  }
  printf("self-test passed: %" PRIu64 " values and the sums of %d outputs are as expected\n",
         model->module->selftest->n_samples, planish_output_count(model));
  return 0;
}

int planish_cli_selftest(const planish_model *model, const planish_options *options) {
  planish_arrays arrays = {NULL, 0};
  planish_context *context = NULL;
  if (!model->module->selftest) return planish_cli_fail(options, "this artifact was compiled without a self-test");
  int status = !planish_cli_complete(model, options, &arrays) ||
               !(context = planish_cli_context(model, options, &arrays));
  if (!status) {
    status = planish_invoke(context) ? planish_cli_fail(options, planish_context_error(context))
                                     : check_outputs(model, context, options);
  }
  planish_context_destroy(context);
  planish_arrays_free(&arrays);
  return status;
}
