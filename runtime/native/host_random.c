/* Host functions that draw random numbers. ONNX leaves the generator open; this one is a counter: draw number i is
 * splitmix64's finalizer of key + (i + 1) * golden ratio, where the key is made from the seed. With a `seed` attribute
 * each run gives the same numbers; without one the key is from the number of the draw in this context and the clock. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host.h"

static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

static uint64_t make_key(planish_host *host, const planish_step *step) {
  const planish_attribute *seed = planish_find_attribute(step, "seed");
  uint64_t bits;
  if (seed && seed->count) {
    double value = planish_float_attribute(step, "seed", 0);
    memcpy(&bits, &value, sizeof bits);
    return mix(bits);
  }
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  return mix(mix((uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec) ^
             mix(++host->draws ^ (uint64_t)(uintptr_t)host));
}

/* In [0, 1), 53 bits. */
static double uniform(uint64_t key, uint64_t index) {
  return (double)(mix(key + (index + 1) * 0x9E3779B97F4A7C15u) >> 11) * 0x1p-53;
}

/* Source: Box and Muller, "A note on the generation of random normal deviates", 1958. */
static double normal(uint64_t key, uint64_t index) {
  double u = 1 - uniform(key, 2 * (index / 2)), v = uniform(key, 2 * (index / 2) + 1), angle = 6.283185307179586 * v;
  return sqrt(-2 * log(u)) * (index % 2 ? sin(angle) : cos(angle));
}

/* A tensor of `dtype`, which must be a type of numbers, in the shape that operand 0 says. */
static planish_object *shaped(planish_host *host, const planish_step *step, planish_object *const *in) {
  int64_t rank, *shape = planish_integers(host, in, 0, &rank);
  if (!shape) return NULL;
  planish_object *made = NULL;
  if (rank > PLANISH_MAX_RANK || planish_element_count((int32_t)rank, shape) < 0)
    planish_host_fail(host, PLANISH_FAILED, "shape: expected sizes of 0 or more");
  else made = planish_host_tensor(host, planish_string_attribute(step, "dtype", "f32"), (int32_t)rank, shape);
  free(shape);
  return made;
}

static planish_status fill(planish_host *host, planish_object *out, uint64_t key, bool is_normal, double base,
                           double scale) {
  double below = out->dtype.bits == 32 ? (double)nextafterf((float)(base + scale), (float)base) : base + scale;
  for (int64_t i = 0; i < out->count; i++) {
    double value = base + scale * (is_normal ? normal(key, (uint64_t)i) : uniform(key, (uint64_t)i));
    if (!is_normal && out->dtype.bits == 32 && (float)value >= (float)(base + scale))
      value = below; /* rounded up to the end */
    planish_store_number(out, i, value);
    planish_status status = planish_host_tick(host);
    if (status) return status;
  }
  return PLANISH_OK;
}

PLANISH_HOST_FUNCTION(random_uniform) {
  double low = planish_float_attribute(step, "low", 0), high = planish_float_attribute(step, "high", 1);
  out[0] = shaped(host, step, in);
  return out[0] ? fill(host, out[0], make_key(host, step), false, low, high - low) : PLANISH_FAILED;
}

PLANISH_HOST_FUNCTION(random_normal) {
  double mean = planish_float_attribute(step, "mean", 0), scale = planish_float_attribute(step, "scale", 1);
  out[0] = shaped(host, step, in);
  return out[0] ? fill(host, out[0], make_key(host, step), true, mean, scale) : PLANISH_FAILED;
}

PLANISH_HOST_FUNCTION(bernoulli) {
  const planish_object *x = planish_tensor_operand(host, in, 0, NULL);
  const planish_dtype_info *own = x ? planish_dtype_of(x->dtype) : NULL;
  if (!own) return PLANISH_FAILED;
  out[0] = planish_host_tensor(host, planish_string_attribute(step, "dtype", own->name), x->rank, x->shape);
  uint64_t key = make_key(host, step);
  for (int64_t i = 0; out[0] && i < x->count; i++) {
    planish_store_number(out[0], i, uniform(key, (uint64_t)i) < planish_number_at(x, i) ? 1 : 0);
    planish_status status = planish_host_tick(host);
    if (status) return status;
  }
  return out[0] ? PLANISH_OK : PLANISH_OUT_OF_MEMORY;
}

/* The class where the sum of probabilities passes `u` of the whole. */
static int64_t pick(const double *sums, int64_t classes, double u) {
  double wanted = u * sums[classes - 1];
  int64_t low = 0, high = classes - 1;
  while (low < high) {
    int64_t middle = (low + high) / 2;
    if (sums[middle] > wanted) high = middle;
    else low = middle + 1;
  }
  return low;
}

PLANISH_HOST_FUNCTION(multinomial) {
  const planish_object *x = planish_tensor_operand(host, in, 0, NULL);
  int64_t samples = planish_int_attribute(step, "sample_size", 1);
  if (!x) return PLANISH_FAILED;
  if (x->rank != 2 || samples < 0 || (x->shape[1] < 1 && x->shape[0] && samples))
    return planish_host_fail(host, PLANISH_FAILED, "expected log-probabilities [b,c], c at least 1");
  int64_t shape[2] = {x->shape[0], samples}, classes = x->shape[1];
  out[0] = planish_host_tensor(host, planish_string_attribute(step, "dtype", "i32"), 2, shape);
  double *sums = out[0] ? planish_host_alloc(host, classes, sizeof *sums) : NULL;
  if (!sums) return PLANISH_OUT_OF_MEMORY;
  uint64_t key = make_key(host, step);
  planish_status status = PLANISH_OK;
  for (int64_t b = 0; b < shape[0] && out[0]->count && !status; b++) {
    double most = -(double)INFINITY, sum = 0;
    for (int64_t c = 0; c < classes; c++) most = fmax(most, planish_number_at(x, b * classes + c));
    for (int64_t c = 0; c < classes; c++) sums[c] = sum += exp(planish_number_at(x, b * classes + c) - most);
    if (!(sum > 0) || isinf(sum))
      status = planish_host_fail(host, PLANISH_FAILED, "row %" PRId64 ": expected probabilities above 0", b);
    for (int64_t s = 0; s < samples && !status; s++) {
      planish_store_number(out[0], b * samples + s,
                           (double)pick(sums, classes, uniform(key, (uint64_t)(b * samples + s))));
      status = planish_host_tick(host);
    }
  }
  free(sums);
  return status;
}
