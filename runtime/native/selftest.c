/* The golden self-test: inputs from a seed, expected sums and samples of the outputs. planish_abi.h states the rules,
 * runtime/selftest.py is the same in Python. */
#define _GNU_SOURCE
#include "selftest.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { INT = 0, UINT = 1, FLOAT = 2, BFLOAT = 4, COMPLEX = 5, BOOL = 6 };

static uint64_t mix(uint64_t x) {
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

static void store(uint8_t *at, const void *value, size_t size) { memcpy(at, value, size); }

static void store_float(planish_dtype dtype, uint8_t *data, int64_t index, double value) {
  float single = (float)value;
  uint16_t half = dtype.code == BFLOAT ? planish_bf16_bits(value) : planish_f16_bits(value);
  if (dtype.bits == 16) store(data + index * 2, &half, 2);
  else if (dtype.bits == 32) store(data + index * 4, &single, 4);
  else store(data + index * 8, &value, 8);
}

static void store_element(planish_dtype dtype, uint8_t *data, int64_t index, uint64_t x, double lo, double hi) {
  double u = (double)(x >> 11) * 0x1p-53;
  if (dtype.code == FLOAT || dtype.code == BFLOAT) {
    if (dtype.bits >= 16) store_float(dtype, data, index, lo + u * (hi - lo));
  } else if (dtype.code >= 10) { /* 8-bit floats: raw bits */
    if (dtype.bits == 8) data[index] = (uint8_t)(x % 64);
    else data[index / 2] = (uint8_t)(data[index / 2] | (x % 16) << (index % 2 * 4));
  } else {
    double value = floor(lo + u * (hi - lo + 1));
    int64_t number = (int64_t)(value > hi ? hi : value);
    if (dtype.bits == 4) data[index / 2] = (uint8_t)(data[index / 2] | (number & 15) << (index % 2 * 4));
    else store(data + index * (dtype.bits / 8), &number, dtype.bits / 8u); /* little endian */
  }
}

planish_status planish_seeded_input(const planish_module *module, int32_t index, planish_array *array,
                                    planish_message *message) {
  const planish_io_spec *spec = &module->inputs[index];
  const planish_selftest *test = module->selftest;
  const planish_dtype_info *info = planish_dtype_find(spec->dtype);
  planish_quoted name;
  if (spec->rank < 0)
    return planish_say(message, PLANISH_INVALID_ARGUMENT,
                       "input %s: the model leaves its rank open; give it with --input or --inputs",
                       planish_quote(&name, spec->name));
  if (!info || info->dtype.code == COMPLEX || spec->rank > PLANISH_MAX_RANK)
    return planish_say(message, PLANISH_FAILED,
                       "input %s: cannot make values of type %s; give it with --input or --inputs",
                       planish_quote(&name, spec->name), spec->dtype);
  array->dtype = info->dtype;
  array->rank = spec->rank;
  for (int32_t d = 0; d < spec->rank; d++)
    array->shape[d] = spec->dims[d] >= 0 ? spec->dims[d] : test ? test->symbols[-(spec->dims[d] + 1)] : 1;
  array->bytes = planish_tensor_bytes(info->dtype, spec->rank, array->shape);
  array->name = strdup(spec->name);
  if (array->bytes < 0 || !planish_array_allocate(array, array->bytes) || !array->name)
    return planish_say(message, PLANISH_OUT_OF_MEMORY, "out of memory");
  memset(array->data, 0, (size_t)array->bytes);
  bool real = info->dtype.code == FLOAT || info->dtype.code == BFLOAT;
  double lo = test ? test->ranges[2 * index] : 0, hi = test ? test->ranges[2 * index + 1] : real ? 1 : 0;
  uint64_t seed = (test ? test->seed : 0) + (uint64_t)index * 0xD1342543DE82EF95u;
  int64_t count = planish_element_count(spec->rank, array->shape);
  for (int64_t i = 0; i < count; i++)
    store_element(info->dtype, array->data, i, mix(seed + (uint64_t)(i + 1) * 0x9E3779B97F4A7C15u), lo, hi);
  return PLANISH_OK;
}

static double float_element(planish_dtype dtype, const uint8_t *data, int64_t index) {
  uint16_t half;
  float single;
  double value;
  if (dtype.bits == 16) {
    memcpy(&half, data + index * 2, 2);
    return dtype.code == BFLOAT ? planish_bf16_value(half) : planish_f16_value(half);
  }
  if (dtype.bits == 32) return memcpy(&single, data + index * 4, 4), single;
  return memcpy(&value, data + index * 8, 8), value;
}

double planish_element(planish_dtype dtype, const void *data, int64_t index) {
  const uint8_t *bytes = data;
  if (dtype.bits == 4) {
    int bits = bytes[index / 2] >> (index % 2 * 4) & 15;
    return dtype.code == INT && bits > 7 ? bits - 16 : bits;
  }
  if ((dtype.code == FLOAT || dtype.code == BFLOAT)) return float_element(dtype, bytes, index);
  uint64_t number = 0;
  memcpy(&number, bytes + index * (dtype.bits / 8), dtype.bits / 8u > 8 ? 8 : dtype.bits / 8u);
  if (dtype.code == INT) {
    int shift = 64 - dtype.bits;
    return (double)((int64_t)(number << shift) >> shift);
  }
  return (double)number;
}

planish_status planish_check_output(const planish_module *module, int32_t index, const planish_tensor *tensor,
                                    planish_message *message) {
  const planish_selftest *test = module->selftest;
  int64_t count = planish_element_count(tensor->ndim, tensor->shape);
  planish_quoted name;
  planish_quote(&name, module->outputs[index].name);
  if (tensor->dtype.code == COMPLEX) return PLANISH_OK;
  for (uint64_t s = 0; s < test->n_samples; s++) {
    const planish_selftest_sample *sample = &test->samples[s];
    if ((int32_t)sample->output != index) continue;
    double got = sample->index < count ? planish_element(tensor->dtype, tensor->data, sample->index) : NAN;
    double want = sample->value;
    bool right = isnan(want) ? isnan(got) : got == want || fabs(got - want) <= test->atol + test->rtol * fabs(want);
    if (!right)
      return planish_say(message, PLANISH_FAILED, "output %s: element %" PRId64 ": expected %.9g, got %.9g", name.text,
                         sample->index, want, got);
  }
  double want = test->sums[2 * index], magnitude = test->sums[2 * index + 1], sum = 0;
  if (isnan(want)) return PLANISH_OK;
  for (int64_t i = 0; i < count; i++) sum += planish_element(tensor->dtype, tensor->data, i);
  if (sum == want || fabs(sum - want) <= (double)count * test->atol + test->rtol * magnitude) return PLANISH_OK;
  return planish_say(message, PLANISH_FAILED, "output %s: sum of its elements: expected %.9g, got %.9g", name.text,
                     want, sum);
}
