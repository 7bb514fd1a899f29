/* Classify a picture with the digit classifier:
 *
 *     planish compile examples/digits/digits.onnx -o digits.so      (writes planish.h beside it)
 *     cc classify.c -I. ./digits.so -o classify && ./classify
 */
#include <stdio.h>
#include <stdlib.h>

#include "planish.h"

int main(void) {
  const planish_model *model;
  planish_context *context;
  planish_message message;
  if (planish_model_open(&model, &message) || planish_context_create(model, NULL, 0, &context, &message)) {
    fprintf(stderr, "%s\n", message.text);
    return 1;
  }

  static float image[1 * 1 * 8 * 8]; /* an empty picture */
  int64_t shape[] = {1, 1, 8, 8};
  planish_io io;
  planish_input_info(model, 0, &io);
  planish_tensor x = {.data = image, .device = {1, 0}, .ndim = 4, .dtype = io.dtype, .shape = shape}, y;
  if (planish_set_input(context, 0, &x) || planish_invoke(context) || planish_get_output(context, 0, &y)) {
    fprintf(stderr, "%s\n", planish_context_error(context));
    return 1;
  }
  for (int digit = 0; digit < 10; digit++) printf("%d %.3f\n", digit, ((float *)y.data)[digit]);
  planish_context_destroy(context);
}
