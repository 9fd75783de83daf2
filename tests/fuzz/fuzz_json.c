/* fuzz_json.c - what the scan lets through cJSON reads, and the writer writes it back
 *
 * parse -> write -> parse -> write: both texts are the same. */
#include <stdlib.h>
#include <string.h>

#include "common/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_value(struct jw *w, const cJSON *v);

static void write_children(struct jw *w, const cJSON *v)
{
	for (const cJSON *one = v->child; one; one = one->next) {
		if (cJSON_IsObject(v)) {
			if (cJSON_GetObjectItemCaseSensitive(v, one->string) != one)
				abort(); /* a key twice */
			jw_key(w, one->string);
		}
		write_value(w, one);
	}
}

static void write_value(struct jw *w, const cJSON *v)
{
	if (cJSON_IsObject(v)) {
		jw_obj(w);
		write_children(w, v);
		jw_end_obj(w);
	} else if (cJSON_IsArray(v)) {
		jw_arr(w);
		write_children(w, v);
		jw_end_arr(w);
	} else if (cJSON_IsString(v)) {
		if (!utf8_valid(v->valuestring, strlen(v->valuestring)))
			abort();
		jw_str(w, v->valuestring);
	} else if (cJSON_IsNumber(v)) {
		jw_dbl(w, v->valuedouble);
	} else if (cJSON_IsBool(v)) {
		jw_bool(w, cJSON_IsTrue(v));
	} else if (cJSON_IsNull(v)) {
		jw_null(w);
	} else {
		abort();
	}
}

static void write_text(const cJSON *v, struct buf *b)
{
	struct jw w;

	buf_init(b);
	jw_init(&w, b);
	write_value(&w, v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf once, twice;
	cJSON *json, *again;
	struct err e;

	if (json_scan((const char *)data, size, &e))
		return 0;
	json = json_parse((const char *)data, size, &e);
	if (!json)
		abort();
	write_text(json, &once);
	again = json_parse(once.data, once.len, &e);
	if (!again)
		abort();
	write_text(again, &twice);
	if (once.len != twice.len || memcmp(once.data, twice.data, once.len) != 0)
		abort();
	cJSON_Delete(json);
	cJSON_Delete(again);
	buf_finish(&once);
	buf_finish(&twice);
	return 0;
}
