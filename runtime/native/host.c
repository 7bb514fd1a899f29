/* What host functions share: failing, making values, attributes, and what is kept from run to run. */
#define _GNU_SOURCE
#include "host.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- failing ---- */
planish_status planish_host_fail(planish_host *host, planish_status status, const char *format, ...) {
  planish_message *message = &host->context->message;
  planish_quoted name;
  char text[sizeof message->text];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  int32_t node = host->step ? host->step->node : -1;
  if (node < 0) return planish_say(message, status, "%s", text);
  return planish_say(message, status, "node %s: %.800s", planish_node_name(host->context, node, &name), text);
}

planish_status planish_host_no_memory(planish_host *host) {
  return planish_host_fail(host, PLANISH_OUT_OF_MEMORY, "%s", planish_no_memory(host->budget));
}

planish_status planish_host_tick(planish_host *host) {
  if (++host->ticks & 0xFFF) return PLANISH_OK;
  return planish_look_at_limits(host->context->control, &host->context->message);
}

/* ---- making ---- */
static planish_object *checked(planish_host *host, planish_object *object) {
  if (!object) planish_host_no_memory(host);
  return object;
}

planish_object *planish_host_tensor(planish_host *host, const char *dtype, int32_t rank, const int64_t *shape) {
  const planish_dtype_info *info = planish_dtype_find(dtype);
  if (!info) {
    planish_host_fail(host, PLANISH_FAILED, "unknown element type %.40s", dtype);
    return NULL;
  }
  return checked(host, planish_tensor_new(host->budget, info->dtype, rank, shape));
}

planish_object *planish_host_strings(planish_host *host, int32_t rank, const int64_t *shape) {
  return checked(host, planish_strings_new(host->budget, rank, shape));
}

planish_object *planish_host_like(planish_host *host, const planish_object *x, int32_t rank, const int64_t *shape) {
  if (x->kind == PLANISH_OBJECT_STRINGS) return planish_host_strings(host, rank, shape);
  return checked(host, planish_tensor_new(host->budget, x->dtype, rank, shape));
}

planish_object *planish_host_sequence(planish_host *host, int64_t capacity) {
  return checked(host, planish_sequence_new(host->budget, capacity));
}

planish_object *planish_host_i64(planish_host *host, int64_t value) {
  planish_object *scalar = checked(host, planish_tensor_new(host->budget, (planish_dtype){0, 64, 1}, 0, NULL));
  if (scalar) *(int64_t *)scalar->data = value;
  return scalar;
}

planish_object *planish_host_bool(planish_host *host, bool value) {
  planish_object *scalar = checked(host, planish_tensor_new(host->budget, (planish_dtype){6, 8, 1}, 0, NULL));
  if (scalar) *(uint8_t *)scalar->data = value;
  return scalar;
}

void *planish_host_alloc(planish_host *host, int64_t count, size_t size) {
  int64_t bytes, total;
  bool fits = count >= 0 && !__builtin_mul_overflow(count + 1, (int64_t)size, &bytes) &&
              !__builtin_add_overflow(bytes, host->budget->used, &total) &&
              (!host->budget->limit || total <= host->budget->limit);
  void *memory = fits ? calloc((size_t)count + 1, size) : NULL;
  if (!memory) planish_host_no_memory(host);
  return memory;
}

/* Copy elements of 4 or 2 bits one by one. */
static void put_packed(planish_object *out, const planish_object *x, int64_t first, int64_t count) {
  for (int64_t i = 0; i < count; i++) planish_store_bits(out, out->filled + i, (uint64_t)planish_int_at(x, first + i));
}

planish_status planish_put(planish_host *host, planish_object *out, const planish_object *x, int64_t from,
                           int64_t count) {
  bool fits =
      from >= 0 && count >= 0 && from <= x->count - count && count <= out->count - out->filled && out->kind == x->kind;
  if (!fits) return planish_host_fail(host, PLANISH_FAILED, "elements do not fit: internal error");
  if (out->kind == PLANISH_OBJECT_STRINGS)
    return planish_strings_copy(out, x, from, count) ? PLANISH_OK : planish_host_no_memory(host);
  int64_t size = out->dtype.bits / 8;
  if (out->dtype.bits < 8) put_packed(out, x, from, count);
  else if (count)
    memcpy((uint8_t *)out->data + out->filled * size, (const uint8_t *)x->data + from * size, (size_t)(count * size));
  out->filled += count;
  return PLANISH_OK;
}

planish_status planish_put_nothing(planish_host *host, planish_object *out, int64_t count) {
  if (count < 0 || count > out->count - out->filled)
    return planish_host_fail(host, PLANISH_FAILED, "elements do not fit: internal error");
  if (out->kind == PLANISH_OBJECT_STRINGS) {
    for (int64_t i = 0; i < count; i++)
      if (!planish_strings_add(out, "", 0)) return planish_host_no_memory(host);
    return PLANISH_OK;
  }
  int64_t size = out->dtype.bits / 8;
  if (out->dtype.bits >= 8 && count) memset((uint8_t *)out->data + out->filled * size, 0, (size_t)(count * size));
  out->filled += count; /* smaller elements are 0 already */
  return PLANISH_OK;
}

planish_status planish_put_text(planish_host *host, planish_object *out, const char *text, uint64_t length) {
  return planish_strings_add(out, text, length) ? PLANISH_OK : planish_host_no_memory(host);
}

/* ---- attributes ---- */
const planish_attribute *planish_find_attribute(const planish_step *step, const char *name) {
  for (uint32_t i = 0; i < step->n_attributes; i++)
    if (!strcmp(step->attributes[i].name, name)) return &step->attributes[i];
  return NULL;
}

int64_t planish_int_attribute(const planish_step *step, const char *name, int64_t otherwise) {
  const planish_attribute *found = planish_find_attribute(step, name);
  return found && found->kind == PLANISH_ATTRIBUTE_INTS && found->count ? planish_attribute_int(found, 0) : otherwise;
}

double planish_float_attribute(const planish_step *step, const char *name, double otherwise) {
  const planish_attribute *found = planish_find_attribute(step, name);
  if (!found || !found->count) return otherwise;
  if (found->kind == PLANISH_ATTRIBUTE_INTS) return (double)planish_attribute_int(found, 0);
  return found->kind == PLANISH_ATTRIBUTE_FLOATS ? planish_attribute_float(found, 0) : otherwise;
}

const char *planish_string_attribute(const planish_step *step, const char *name, const char *otherwise) {
  const planish_attribute *found = planish_find_attribute(step, name);
  bool good = found && found->kind == PLANISH_ATTRIBUTE_STRINGS && found->count;
  return good ? ((const char *const *)found->data)[0] : otherwise;
}

const planish_attribute *planish_need_attribute(planish_host *host, const char *name, int32_t kind) {
  static const char *const kinds[] = {"integers", "floats", "strings", "a tensor"};
  const planish_attribute *found = planish_find_attribute(host->step, name);
  if (found && found->kind == kind) return found;
  planish_host_fail(host, PLANISH_FAILED, "attribute %s: expected %s", name, kinds[kind]);
  return NULL;
}

/* ---- constants ---- */
static void release_kept(void *value) { planish_release(value); }

static planish_object *make_constant(planish_host *host, const planish_constant *constant) {
  const planish_dtype_info *info = planish_dtype_find(constant->dtype);
  if (strcmp(constant->dtype, "string")) {
    const void *data = constant->data ? constant->data : host->context->model->weights + constant->offset;
    if (!info) return NULL;
    return planish_tensor_borrow(host->budget, info->dtype, constant->rank, constant->dims, data);
  }
  planish_object *strings = planish_strings_new(host->budget, constant->rank, constant->dims);
  const char *const *texts = constant->data;
  for (int64_t i = 0; strings && i < strings->count; i++) {
    if (planish_strings_add(strings, texts[i], constant->lengths[i])) continue;
    planish_release(strings);
    return NULL;
  }
  return strings;
}

planish_object *planish_constant_object(planish_host *host, const planish_constant *constant) {
  planish_object *found = planish_find_kept(host, constant);
  if (!found) {
    found = make_constant(host, constant);
    if (!found) {
      planish_host_no_memory(host);
      return NULL;
    }
    if (!planish_keep(host, constant, found, release_kept)) return NULL;
  }
  return planish_retain(found);
}

/* ---- what is kept ---- */
static uint32_t place_of(const planish_kept *kept, uint32_t room, const void *key) {
  uint32_t at = (uint32_t)(((uint64_t)(uintptr_t)key * 0x9E3779B97F4A7C15u) >> 32) & (room - 1);
  while (kept[at].key && kept[at].key != key) at = (at + 1) & (room - 1);
  return at;
}

void *planish_find_kept(const planish_host *host, const void *key) {
  return host->kept ? host->kept[place_of(host->kept, host->kept_room, key)].value : NULL;
}

bool planish_keep(planish_host *host, const void *key, void *value, void (*destroy)(void *value)) {
  if (host->kept_count * 2 >= host->kept_room) {
    uint32_t room = host->kept_room ? host->kept_room * 2 : 64;
    planish_kept *grown = calloc(room, sizeof *grown);
    if (!grown) {
      destroy(value);
      planish_host_no_memory(host);
      return false;
    }
    for (uint32_t i = 0; i < host->kept_room; i++)
      if (host->kept[i].key) grown[place_of(grown, room, host->kept[i].key)] = host->kept[i];
    free(host->kept);
    host->kept = grown;
    host->kept_room = room;
  }
  host->kept[place_of(host->kept, host->kept_room, key)] = (planish_kept){key, value, destroy};
  host->kept_count++;
  return true;
}
