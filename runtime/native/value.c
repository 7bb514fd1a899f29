/* Values of any kind across the interface: from the caller to objects and back, with one clear message when the kind is
 * not what the model takes. */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "object.h"

#define DEPTH 16 /* of sequences in sequences */

/* ---- types as text: "f32", "f32[N,3]", "string", "seq<...>", "optional<...>", "map<string,f32>" ---- */
typedef planish_type_text type_text;

bool planish_type_inside(type_text type, const char *name, type_text *inner) {
  size_t length = strlen(name);
  if (type.length < length + 2 || strncmp(type.at, name, length) || type.at[length] != '<') return false;
  *inner = (type_text){type.at + length + 1, type.length - length - 2};
  return type.at[type.length - 1] == '>';
}

/* The element type of a tensor type, without its shape. */
static bool element_is(type_text type, const char *name) {
  const char *bracket = memchr(type.at, '[', type.length);
  size_t length = bracket ? (size_t)(bracket - type.at) : type.length;
  return strlen(name) == length && !strncmp(type.at, name, length);
}

static type_text whole(const char *text) { return (type_text){text, strlen(text)}; }

bool planish_is_tensor_type(const char *dtype) {
  type_text inner;
  type_text type = whole(dtype);
  return !planish_type_inside(type, "seq", &inner) && !planish_type_inside(type, "optional", &inner) &&
         !planish_type_inside(type, "map", &inner) && !element_is(type, "string");
}

static const char *kind_name(const planish_object *object) {
  static const char *const names[] = {"a tensor", "strings", "a sequence", "a map", "nothing"};
  if (object->kind != PLANISH_OBJECT_TENSOR) return names[object->kind];
  const planish_dtype_info *info = planish_dtype_of(object->dtype);
  return info ? info->name : names[0];
}

/* Whether `object` is of the type; if not, `*odd` is the part that is not, and `*wanted` its type. */
static bool conforms(type_text type, const planish_object *object, const planish_object **odd, type_text *wanted) {
  type_text inner;
  *odd = object;
  *wanted = type;
  if (planish_type_inside(type, "optional", &inner))
    return object->kind == PLANISH_OBJECT_ABSENT || conforms(inner, object, odd, wanted);
  if (planish_type_inside(type, "seq", &inner)) {
    if (object->kind != PLANISH_OBJECT_SEQUENCE) return false;
    for (int64_t i = 0; i < object->count; i++)
      if (!conforms(inner, object->items[i], odd, wanted)) return false;
    return true;
  }
  if (planish_type_inside(type, "map", &inner)) {
    const char *comma = memchr(inner.at, ',', inner.length);
    if (object->kind != PLANISH_OBJECT_MAP || !comma) return false;
    type_text key = {inner.at, (size_t)(comma - inner.at)}, value = {comma + 1, inner.length - key.length - 1};
    if (!conforms(key, object->keys, odd, wanted)) return false;
    const planish_object *values = object->values;
    if (values->kind != PLANISH_OBJECT_SEQUENCE) return conforms(value, values, odd, wanted);
    for (int64_t i = 0; i < values->count; i++)
      if (!conforms(value, values->items[i], odd, wanted)) return false;
    return true;
  }
  if (object->kind == PLANISH_OBJECT_STRINGS) return element_is(type, "string");
  const planish_dtype_info *info = planish_dtype_of(object->dtype);
  return object->kind == PLANISH_OBJECT_TENSOR && info && element_is(type, info->name);
}

/* ---- from the caller ---- */
typedef struct maker {
  planish_budget *budget;
  const char *problem; /* what is wrong */
  planish_status status;
} maker;

static planish_object *wrong(maker *m, const char *problem) {
  if (m->problem) return NULL;
  m->problem = problem;
  m->status = PLANISH_INVALID_ARGUMENT;
  return NULL;
}

static planish_object *no_memory(maker *m) {
  if (m->problem) return NULL;
  m->problem = planish_no_memory(m->budget);
  m->status = PLANISH_OUT_OF_MEMORY;
  return NULL;
}

static planish_object *make_object(maker *m, const planish_value *value, int depth);

static planish_object *make_tensor(maker *m, const planish_tensor *tensor) {
  int64_t bytes = tensor->ndim < 0 || tensor->ndim > PLANISH_MAX_RANK
                      ? -1
                      : planish_tensor_bytes(tensor->dtype, tensor->ndim, tensor->shape);
  if (bytes < 0) return wrong(m, "a tensor's shape is wrong or too large");
  if (!planish_dtype_of(tensor->dtype)) return wrong(m, "a tensor's element type is unknown");
  if (tensor->device.type != 1) return wrong(m, "a tensor is not on the CPU");
  if (!planish_is_row_major(tensor)) return wrong(m, "a tensor is not in row-major order; copy it");
  const uint8_t *data = tensor->data;
  if (bytes && !data) return wrong(m, "a tensor's data is NULL");
  uintptr_t size = planish_alignment_of(tensor->dtype);
  if (bytes && ((uintptr_t)data + tensor->byte_offset) % size) return wrong(m, "a tensor's data is not aligned");
  planish_object *object = planish_tensor_borrow(m->budget, tensor->dtype, tensor->ndim, tensor->shape,
                                                 data ? data + tensor->byte_offset : NULL);
  return object ? object : no_memory(m);
}

static planish_object *make_strings(maker *m, const planish_value *value) {
  int64_t count = value->as.strings.ndim < 0 || value->as.strings.ndim > PLANISH_MAX_RANK
                      ? -1
                      : planish_element_count(value->as.strings.ndim, value->as.strings.shape);
  const uint64_t *lengths = value->as.strings.lengths;
  if (count < 0) return wrong(m, "the strings' shape is wrong or too large");
  planish_object *object = planish_strings_new(m->budget, value->as.strings.ndim, value->as.strings.shape);
  if (!object) return no_memory(m);
  for (int64_t i = 0; i < count; i++) {
    const char *text = value->as.strings.data ? value->as.strings.data[i] : NULL;
    uint64_t length = lengths ? lengths[i] : text ? strlen(text) : 0;
    bool missing = !text && (length || !lengths);
    if (!missing && planish_strings_add(object, text, length)) continue;
    planish_release(object);
    return missing ? wrong(m, "a string is NULL") : no_memory(m);
  }
  return object;
}

static planish_object *make_sequence(maker *m, const planish_value *value, int depth) {
  int64_t count = value->as.sequence.count;
  if (count < 0 || (count && !value->as.sequence.items)) return wrong(m, "a sequence's items are missing");
  planish_object *sequence = planish_sequence_new(m->budget, count);
  if (!sequence) return no_memory(m);
  for (int64_t i = 0; i < count; i++) {
    planish_object *item = make_object(m, &value->as.sequence.items[i], depth + 1);
    bool added = item && planish_sequence_add(sequence, item);
    planish_release(item);
    if (added) continue;
    planish_release(sequence);
    return no_memory(m);
  }
  return sequence;
}

static bool is_column(const planish_object *object, int64_t count) {
  if (object->kind == PLANISH_OBJECT_SEQUENCE) return object->count == count;
  return (object->kind == PLANISH_OBJECT_TENSOR || object->kind == PLANISH_OBJECT_STRINGS) && object->rank == 1 &&
         object->count == count;
}

static planish_object *make_map(maker *m, const planish_value *value, int depth) {
  if (!value->as.map.keys || !value->as.map.values) return wrong(m, "a map's keys or values are missing");
  planish_object *keys = make_object(m, value->as.map.keys, depth + 1), *map = NULL;
  planish_object *values = keys ? make_object(m, value->as.map.values, depth + 1) : NULL;
  if (values) {
    bool fits = keys->kind != PLANISH_OBJECT_SEQUENCE && is_column(keys, keys->count) && is_column(values, keys->count);
    map = fits ? planish_map_new(m->budget, keys, values) : NULL;
    if (!fits) wrong(m, "a map's keys and values differ in number or dimensions");
    else if (!map) no_memory(m);
  }
  planish_release(keys);
  planish_release(values);
  return map;
}

static planish_object *make_object(maker *m, const planish_value *value, int depth) {
  if (depth > DEPTH) return wrong(m, "values are nested too deep");
  switch (value->kind) {
    case PLANISH_TENSOR: return make_tensor(m, &value->as.tensor);
    case PLANISH_STRINGS: return make_strings(m, value);
    case PLANISH_SEQUENCE: return make_sequence(m, value, depth);
    case PLANISH_MAP: return make_map(m, value, depth);
    case PLANISH_ABSENT: {
      planish_object *absent = planish_absent_new(m->budget);
      return absent ? absent : no_memory(m);
    }
  }
  return wrong(m, "a value's kind is unknown");
}

static planish_status refuse_kind(planish_context *context, const planish_io_spec *spec, const planish_object *odd,
                                  type_text wanted) {
  planish_quoted name;
  bool part = wanted.length != strlen(spec->dtype);
  return planish_say(&context->message, PLANISH_INVALID_ARGUMENT, "input %s: type: expected %.80s, got %s%s%.*s%s",
                     planish_quote(&name, spec->name), spec->dtype, kind_name(odd), part ? " where " : "",
                     (int)(part ? wanted.length < 60 ? wanted.length : 60 : 0), wanted.at, part ? " is expected" : "");
}

/* Bind `object` to an input of strings: its dimensions are symbols like those of tensors. */
static planish_status check_strings(planish_context *context, int32_t index, const planish_io_spec *spec,
                                    const planish_object *object) {
  planish_tensor shape = {.ndim = object->rank, .shape = (int64_t *)(uintptr_t)object->shape};
  planish_status status = planish_check_rank(context->model->module, index, object->rank, &context->message);
  return status ? status : planish_check_shape(context, "input", spec, &shape);
}

static void bind_object(planish_context *context, int32_t index, planish_object *object) {
  planish_slot *slot = &context->inputs[index];
  bool strings = object->kind == PLANISH_OBJECT_STRINGS &&
                 element_is(whole(context->model->module->inputs[index].dtype), "string");
  planish_release(slot->object);
  slot->object = object;
  slot->tensor = (planish_tensor){.ndim = strings ? object->rank : -1, .shape = slot->shape};
  if (strings && object->rank) memcpy(slot->shape, object->shape, (size_t)object->rank * sizeof(int64_t));
  slot->bytes = 0;
  slot->bound = true;
  context->inferred = context->prepared = false;
}

planish_status planish_set_input_value(planish_context *context, int32_t index, const planish_value *value) {
  const planish_module *module = context->model->module;
  planish_quoted name;
  if (index < 0 || (uint32_t)index >= planish_open_inputs(module))
    return planish_say(&context->message, PLANISH_INVALID_ARGUMENT, "input: number: expected 0 to %d, got %d",
                       (int)planish_open_inputs(module) - 1, index);
  const planish_io_spec *spec = &module->inputs[index];
  bool plain = planish_is_tensor_type(spec->dtype);
  if (plain && value->kind == PLANISH_TENSOR) return planish_set_input(context, index, &value->as.tensor);
  maker m = {&context->control->budget, NULL, PLANISH_OK};
  planish_object *object = make_object(&m, value, 0);
  if (!object)
    return planish_say(&context->message, m.status, "input %s: %s", planish_quote(&name, spec->name), m.problem);
  const planish_object *odd;
  type_text wanted;
  planish_status status = PLANISH_OK;
  if (!conforms(whole(spec->dtype), object, &odd, &wanted)) status = refuse_kind(context, spec, odd, wanted);
  if (!status && element_is(whole(spec->dtype), "string")) status = check_strings(context, index, spec, object);
  if (status) {
    planish_release(object);
    return status;
  }
  bind_object(context, index, object);
  return PLANISH_OK;
}

/* ---- to the caller ---- */
static bool view_strings(planish_object *object, planish_value *value) {
  size_t count = (size_t)object->count;
  const char **texts = object->view;
  if (!texts) {
    texts = object->view = malloc((count + 1) * (sizeof *texts + sizeof(uint64_t)));
    if (!texts) return false;
    uint64_t *lengths = (uint64_t *)(texts + count + 1);
    for (size_t i = 0; i < count; i++) texts[i] = planish_text_at(object, (int64_t)i, &lengths[i]);
  }
  value->kind = PLANISH_STRINGS;
  value->as.strings.data = texts;
  value->as.strings.lengths = (const uint64_t *)(texts + count + 1);
  value->as.strings.ndim = object->rank;
  value->as.strings.shape = object->shape;
  return true;
}

static bool view_items(planish_object *object, planish_value *value) {
  bool is_map = object->kind == PLANISH_OBJECT_MAP;
  size_t count = is_map ? 2 : (size_t)object->count;
  planish_object *pair[2] = {object->keys, object->values};
  planish_value *items = object->view;
  if (!items) {
    items = calloc(count + 1, sizeof *items);
    bool good = items != NULL;
    for (size_t i = 0; i < count && good; i++)
      good = planish_object_view(is_map ? pair[i] : object->items[i], &items[i]);
    if (!good) {
      free(items);
      return false;
    }
    object->view = items;
  }
  if (is_map) {
    value->kind = PLANISH_MAP;
    value->as.map.keys = &items[0];
    value->as.map.values = &items[1];
  } else {
    value->kind = PLANISH_SEQUENCE;
    value->as.sequence.items = items;
    value->as.sequence.count = object->count;
  }
  return true;
}

bool planish_object_view(planish_object *object, planish_value *value) {
  switch (object->kind) {
    case PLANISH_OBJECT_TENSOR:
      value->kind = PLANISH_TENSOR;
      value->as.tensor = (planish_tensor){object->data, {1, 0}, object->rank, object->dtype,
                                          (int64_t *)(uintptr_t)object->shape, NULL, 0};
      return true;
    case PLANISH_OBJECT_STRINGS: return view_strings(object, value);
    case PLANISH_OBJECT_SEQUENCE:
    case PLANISH_OBJECT_MAP: return view_items(object, value);
    case PLANISH_OBJECT_ABSENT: value->kind = PLANISH_ABSENT; return true;
  }
  return false;
}

planish_status planish_get_output_value(planish_context *context, int32_t index, planish_value *value) {
  const planish_module *module = context->model->module;
  bool known = index >= 0 && (uint32_t)index < planish_open_outputs(module);
  const planish_slot *slot = known ? &context->outputs[index] : NULL;
  if (known && context->prepared && slot->object && slot->tensor.ndim < 0) {
    if (planish_object_view(slot->object, value)) return PLANISH_OK;
    return planish_say(&context->message, PLANISH_OUT_OF_MEMORY, "output %d: out of memory", index);
  }
  planish_tensor tensor;
  planish_status status = planish_get_output(context, index, &tensor);
  if (status) return status;
  value->kind = PLANISH_TENSOR;
  value->as.tensor = tensor;
  return PLANISH_OK;
}
