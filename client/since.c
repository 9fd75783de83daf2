/* since.c - see since.h */
#include "client/since.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#include "client/opts.h"

#define DAY_MS INT64_C(86400000)

static bool whole(const char *text, const char *format, struct tm *tm)
{
	const char *end = strptime(text, format, tm);

	return end && !*end;
}

static bool is_date(const char *text, int64_t *ret_ms)
{
	static const char *const formats[] = { "%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S",
					       "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S" };

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		struct tm tm = { .tm_isdst = -1 };
		int day;
		time_t t;

		if (!whole(text, formats[i], &tm))
			continue;
		day = tm.tm_mday;
		t = mktime(&tm);
		*ret_ms = (int64_t)t * 1000;
		/* neither the 31st of February nor the year 26 */
		return t != (time_t)-1 && tm.tm_mday == day && tm.tm_year >= 70;
	}
	return false;
}

/* Today, or yesterday when that is still to come. */
static bool is_clock(const char *text, int64_t now_ms, int64_t *ret_ms)
{
	time_t now = (time_t)(now_ms / 1000), t = 0;
	struct tm tm, at = { 0 };

	if (!whole(text, "%H:%M", &at) && !whole(text, "%H:%M:%S", &at))
		return false;
	if (!localtime_r(&now, &tm))
		return false;
	at.tm_year = tm.tm_year;
	at.tm_mon = tm.tm_mon;
	at.tm_isdst = -1;
	for (int back = 0; back < 2; back++) {
		struct tm day = at; /* mktime() changes an hour that clocks leap over */

		day.tm_mday = tm.tm_mday - back;
		t = mktime(&day);
		if (t <= now)
			break;
	}
	*ret_ms = (int64_t)t * 1000;
	return true;
}

int since_parse(const char *what, const char *text, int64_t now_ms, int64_t *ret_wall_ms, struct err *e)
{
	uint64_t ago;

	if (is_date(text, ret_wall_ms) || is_clock(text, now_ms, ret_wall_ms))
		return 0;
	if (!strpbrk(text, ":-") && opts_duration(what, text, 36500 * (uint64_t)DAY_MS, &ago, NULL) == 0) {
		*ret_wall_ms = now_ms > (int64_t)ago ? now_ms - (int64_t)ago : 1;
		return 0;
	}
	return err_set(e, EINVAL, "%s \"%s\" is no time: write 10m or 2d (ago), 14:05, 2026-11-25 or "
		       "\"2026-11-25 14:05\"", what, text);
}
