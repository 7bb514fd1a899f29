/* Probabilities of classes from those of pairs of classes: SVMClassifier with prob_a and prob_b. */
#include <math.h>
#include <stdlib.h>

#include "host.h"

/* One row: `r` [classes][classes] holds in r[i][j] how probable class i is against class j. The probabilities p are what
 * least contradicts: the method of Wu, Lin and Weng (2004, "Probability estimates for multi-class classification by
 * pairwise coupling"), with the limits on rounds and error that libsvm and ONNX Runtime have. `q` has room for
 * classes * (classes + 1) numbers. */
static void couple(int64_t classes, const float *r, float *q, float *p) {
  float *product = q + classes * classes, limit = 0.005f / (float)classes;
  for (int64_t i = 0; i < classes; i++) {
    p[i] = 1.0f / (float)classes;
    q[i * classes + i] = 0;
    for (int64_t j = 0; j < classes; j++) {
      if (j == i) continue;
      q[i * classes + i] += r[j * classes + i] * r[j * classes + i];
      q[i * classes + j] = -r[j * classes + i] * r[i * classes + j];
    }
  }
  for (int round = 0; round < 100; round++) {
    float whole = 0, error = 0;
    for (int64_t i = 0; i < classes; i++) {
      product[i] = 0;
      for (int64_t j = 0; j < classes; j++) product[i] += q[i * classes + j] * p[j];
      whole += p[i] * product[i];
    }
    for (int64_t i = 0; i < classes; i++) error = fmaxf(error, fabsf(product[i] - whole));
    if (error < limit) return;
    for (int64_t i = 0; i < classes; i++) {
      float own = q[i * classes + i], step = (whole - product[i]) / own;
      p[i] += step;
      whole = (whole + step * (step * own + 2 * product[i])) / (1 + step) / (1 + step);
      for (int64_t j = 0; j < classes; j++) {
        product[j] = (product[j] + step * q[i * classes + j]) / (1 + step);
        p[j] /= 1 + step;
      }
    }
  }
}

PLANISH_HOST_FUNCTION(pair_probability) {
  const planish_object *x = planish_tensor_operand(host, in, 0, "f32");
  int64_t classes = planish_int_attribute(step, "classes", 0);
  if (!x) return PLANISH_FAILED;
  if (classes < 2 || classes > 65535 || x->rank != 2 || x->shape[1] != classes * (classes - 1) / 2)
    return planish_host_fail(host, PLANISH_FAILED, "expected a column for each pair of classes");
  int64_t pairs = x->shape[1], shape[2] = {x->shape[0], classes};
  out[0] = planish_host_tensor(host, "f32", 2, shape);
  float *room = out[0] ? planish_host_alloc(host, classes * (2 * classes + 1), sizeof *room) : NULL;
  if (!room) return PLANISH_OUT_OF_MEMORY;
  planish_status status = PLANISH_OK;
  for (int64_t row = 0; row < x->shape[0] && !status; row++) {
    const float *from = (const float *)x->data + row * pairs;
    for (int64_t i = 0; i < classes; i++) {
      for (int64_t j = i + 1; j < classes; j++) {
        float p = fminf(fmaxf(*from++, 1e-7f), 1 - 1e-7f);
        room[i * classes + j] = p;
        room[j * classes + i] = 1 - p;
      }
    }
    couple(classes, room, room + classes * classes, (float *)out[0]->data + row * classes);
    status = planish_host_tick(host);
  }
  free(room);
  return status;
}
