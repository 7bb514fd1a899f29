/* Run a compiled model from C: every input is filled with ones, the first values of each output are printed.
 *
 *   planish compile model.onnx -o model.so
 *   cc main.c model.so -I "$(python -m planish.runtime --include)" -Wl,-rpath,'$ORIGIN' -o app && ./app
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "planish.h"

#define SYMBOL_SIZE 3 /* what symbolic dimensions, such as a batch, are set to here */

/* A tensor of ones (or of true) as input `index` wants it; 32-bit floats and integers only, for the sake of brevity. */
static int make_input(const planish_model *model, int32_t index, planish_tensor *tensor) {
  planish_io io;
  int64_t count = 1;
  planish_input_info(model, index, &io);
  *tensor = (planish_tensor){.device = {1, 0}, .ndim = io.rank, .dtype = io.dtype};
  tensor->shape = malloc(((size_t)io.rank + 1) * sizeof *tensor->shape);
  for (int32_t d = 0; d < io.rank; d++) count *= tensor->shape[d] = io.dims[d] >= 0 ? io.dims[d] : SYMBOL_SIZE;
  tensor->data = calloc((size_t)count + 1, 8);
  for (int64_t i = 0; i < count; i++) {
    if (io.dtype.code == 2 && io.dtype.bits == 32) ((float *)tensor->data)[i] = 1;
    else if (io.dtype.code < 2 && io.dtype.bits == 64) ((int64_t *)tensor->data)[i] = 1;
    else if (io.dtype.code < 2 && io.dtype.bits == 32) ((int32_t *)tensor->data)[i] = 1;
    else return printf("input %s: this example has no values of type %s\n", io.name, io.dtype_name), 0;
  }
  return 1;
}

static void print_output(const planish_model *model, planish_context *context, int32_t index) {
  planish_io io;
  planish_tensor tensor;
  int64_t count = 1;
  planish_output_info(model, index, &io);
  planish_get_output(context, index, &tensor);
  printf("%s: %s[", io.name, io.dtype_name);
  for (int32_t d = 0; d < tensor.ndim; d++) {
    printf("%s%" PRId64, d ? "," : "", tensor.shape[d]);
    count *= tensor.shape[d];
  }
  printf("]");
  for (int64_t i = 0; i < count && i < 10 && tensor.dtype.code == 2 && tensor.dtype.bits == 32; i++)
    printf(" %g", ((float *)tensor.data)[i]);
  printf("\n");
}

int main(void) {
  const planish_model *model;
  planish_context *context;
  planish_message message;
  if (planish_model_open(&model, &message) || planish_context_create(model, NULL, 0, &context, &message)) {
    fprintf(stderr, "%s\n", message.text);
    return 1;
  }
  int32_t count = planish_input_count(model);
  planish_tensor *inputs = calloc((size_t)count + 1, sizeof *inputs);
  int failed = 0;
  for (int32_t i = 0; i < count && !failed; i++)
    failed = !make_input(model, i, &inputs[i]) || planish_set_input(context, i, &inputs[i]);
  if (failed || planish_invoke(context)) {
    fprintf(stderr, "%s\n", planish_context_error(context));
    return 1;
  }
  printf("model: %s\n", planish_model_name(model));
  for (int32_t i = 0; i < planish_output_count(model); i++) print_output(model, context, i);
  planish_context_destroy(context);
  for (int32_t i = 0; i < count; i++) {
    free(inputs[i].data);
    free(inputs[i].shape);
  }
  free(inputs);
  return 0;
}
