/* trainer.c - see trainer.h
 *
 * libyaml's events are read, not its documents: aliases are never followed, so a
 * small file cannot become a large one. */
#include "client/trainer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>

#include "common/utf8.h"

#define EVENTS_MAX 200000
#define OPEN_MAX 256 /* brackets: libyaml's time is their depth for each word */

static const char *const names[TK_COUNT] = {
	[TK_OVERWRITE] = "overwrite_output_dir",
	[TK_RESUME] = "resume_from_checkpoint",
	[TK_ONLY_MODEL] = "save_only_model",
	[TK_STRATEGY] = "save_strategy",
	[TK_SAVE_STEPS] = "save_steps",
	[TK_MAX_STEPS] = "max_steps",
	[TK_STAGE] = "stage",
	[TK_FINETUNING] = "finetuning_type",
	[TK_DO_TRAIN] = "do_train",
	[TK_OUTPUT] = "output_dir",
};

/* ---- the command line ---------------------------------------------------------- */

static const char *base_name(const char *s)
{
	const char *slash = strrchr(s, '/');

	return slash ? slash + 1 : s;
}

size_t trainer_find(char *const *argv)
{
	for (size_t i = 0; argv[i]; i++) {
		const char *word = base_name(argv[i]), *next = argv[i + 1];
		bool cli = strcmp(word, "llamafactory-cli") == 0 || strcmp(word, "lmf") == 0 ||
			   (i > 0 && strcmp(argv[i - 1], "-m") == 0 && strcmp(word, "llamafactory.cli") == 0);

		if (cli && next && strcmp(next, "train") == 0)
			return i + 2;
		if (strcmp(word, "train.py") == 0 && next && trainer_is_file(next))
			return i + 1;
	}
	return 0;
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), k = strlen(end);

	return n > k && strcmp(s + n - k, end) == 0;
}

bool trainer_is_file(const char *arg)
{
	return arg && (ends_with(arg, ".yaml") || ends_with(arg, ".yml") || ends_with(arg, ".json"));
}

static int key_of(const char *name, size_t n)
{
	for (int k = 0; k < TK_COUNT; k++)
		if (strlen(names[k]) == n && memcmp(names[k], name, n) == 0)
			return k;
	return -1;
}

static void take(struct trainer *t, int key, const char *text, size_t n, bool quoted, unsigned line)
{
	struct trainer_value *v = &t->v[key];

	*v = (struct trainer_value){ .quoted = quoted, .line = line };
	v->known = !(n >= 2 && text[0] == '$' && text[1] == '{');
	if (n >= sizeof(v->text))
		n = utf8_cut(text, sizeof(v->text) - 1);
	for (size_t i = 0; i < n; i++) /* it is told in one line */
		v->text[i] = (unsigned char)text[i] < ' ' ? '?' : text[i];
	v->text[n] = '\0';
}

/* key=value, as OmegaConf takes it. */
static void take_pair(struct trainer *t, const char *arg)
{
	const char *eq = strchr(arg, '=');
	int key = eq ? key_of(arg, (size_t)(eq - arg)) : -1;

	if (key >= 0)
		take(t, key, eq + 1, strlen(eq + 1), false, 0);
}

/* --key value, --key=value, or --key alone for true. Whether 'next' was its value. */
static bool take_option(struct trainer *t, const char *arg, const char *next)
{
	size_t n = strcspn(arg + 2, "=");
	int key = key_of(arg + 2, n);

	if (key < 0)
		return false;
	if (arg[2 + n] == '=')
		take(t, key, arg + 3 + n, strlen(arg + 3 + n), false, 0);
	else if (!next || strncmp(next, "--", 2) == 0)
		take(t, key, "true", 4, false, 0);
	else
		take(t, key, next, strlen(next), false, 0);
	return arg[2 + n] != '=' && next && strncmp(next, "--", 2) != 0;
}

void trainer_arguments(struct trainer *t, char *const *argv, bool behind_file)
{
	for (size_t i = 0; argv[i]; i++) {
		if (behind_file)
			take_pair(t, argv[i]);
		else if (strncmp(argv[i], "--", 2) == 0)
			i += take_option(t, argv[i], argv[i + 1]);
	}
}

/* ---- the file --------------------------------------------------------------------- */

/* Where we are in the events: depth 1 is the top level's mapping. */
struct reading {
	struct trainer *t;
	unsigned depth;
	bool is_key; /* the next thing at depth 1 is a key */
	int key; /* that a value follows for; -1: of no interest */
};

static void on_value(struct reading *r, const yaml_event_t *e)
{
	bool scalar = e->type == YAML_SCALAR_EVENT;

	if (r->key >= 0 && scalar)
		take(r->t, r->key, (const char *)e->data.scalar.value, e->data.scalar.length,
		     e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE, (unsigned)e->start_mark.line + 1);
	else if (r->key >= 0)
		r->t->v[r->key] = (struct trainer_value){ 0 };
}

/* One thing at the top level: a scalar, an alias, or the begin of something larger. */
static void on_top(struct reading *r, const yaml_event_t *e)
{
	if (r->is_key)
		r->key = e->type == YAML_SCALAR_EVENT ?
				 key_of((const char *)e->data.scalar.value, e->data.scalar.length) : -1;
	else
		on_value(r, e);
	r->is_key = !r->is_key;
}

/* False: there is nothing here that a trainer could read. */
static bool on_event(struct reading *r, const yaml_event_t *e)
{
	switch (e->type) {
	case YAML_SCALAR_EVENT:
	case YAML_ALIAS_EVENT:
		if (r->depth == 1)
			on_top(r, e);
		return r->depth > 0;
	case YAML_MAPPING_START_EVENT:
	case YAML_SEQUENCE_START_EVENT:
		if (r->depth == 0 && e->type == YAML_SEQUENCE_START_EVENT)
			return false;
		if (r->depth == 1)
			on_top(r, e);
		r->depth++;
		return true;
	case YAML_MAPPING_END_EVENT:
	case YAML_SEQUENCE_END_EVENT:
		r->depth--;
		return r->depth > 0; /* one document counts */
	default:
		return true;
	}
}

static size_t line_at(const char *text, size_t n)
{
	size_t line = 1;

	for (size_t i = 0; i < n; i++)
		line += text[i] == '\n';
	return line;
}

static int parse_error(const yaml_parser_t *p, const char *text, size_t n, struct err *e)
{
	size_t at = p->problem_offset < n ? p->problem_offset : n;

	if (p->error == YAML_MEMORY_ERROR)
		return err_set(e, ENOMEM, "out of memory");
	return err_set(e, EINVAL, "line %zu: %s%s%s",
		       p->error == YAML_READER_ERROR ? line_at(text, at) : p->problem_mark.line + 1,
		       p->problem ? p->problem : "it is no YAML", p->context ? " " : "", p->context ? p->context : "");
}

/* Whether they are text or not: nobody writes so many that are not closed. */
static bool too_deep(const char *text, size_t n)
{
	int open = 0;

	for (size_t i = 0; i < n && open <= OPEN_MAX; i++) {
		open += text[i] == '{' || text[i] == '[';
		open -= open > 0 && (text[i] == '}' || text[i] == ']');
	}
	return open > OPEN_MAX;
}

int trainer_read(struct trainer *t, const char *text, size_t n, struct err *e)
{
	struct reading r = { .t = t, .is_key = true, .key = -1 };
	yaml_parser_t p;
	yaml_event_t ev;
	bool more = true;
	int rc = 0;

	if (too_deep(text, n))
		return err_set(e, E2BIG, "more than %d open brackets", OPEN_MAX);
	if (!yaml_parser_initialize(&p))
		return err_set(e, ENOMEM, "out of memory");
	yaml_parser_set_input_string(&p, (const unsigned char *)text, n);
	for (int i = 0; more && rc == 0 && i < EVENTS_MAX; i++) {
		if (!yaml_parser_parse(&p, &ev)) {
			rc = parse_error(&p, text, n, e);
			break;
		}
		more = ev.type != YAML_STREAM_END_EVENT && on_event(&r, &ev);
		yaml_event_delete(&ev);
	}
	yaml_parser_delete(&p);
	return rc;
}

/* ---- what values mean, as YAML 1.1 and Python have it --------------------------------- */

static bool is_one_of(const char *s, const char *const *words)
{
	for (; *words; words++)
		if (strcasecmp(s, *words) == 0)
			return true;
	return false;
}

static bool is_null(const struct trainer_value *v)
{
	static const char *const nulls[] = { "", "~", "null", "none", NULL };

	return !v->known || (!v->quoted && is_one_of(v->text, nulls));
}

static bool is_false(const struct trainer_value *v)
{
	static const char *const no[] = { "false", "no", "off", "0", NULL };

	return is_null(v) || (v->quoted ? !*v->text : is_one_of(v->text, no));
}

static bool is_true(const struct trainer_value *v)
{
	return !is_false(v);
}

static bool is_word(const struct trainer_value *v, const char *word)
{
	return v->known && strcasecmp(v->text, word) == 0;
}

/* "no" is a string for transformers, and false for YAML 1.1: both mean it. */
static bool saves_never(const struct trainer_value *v)
{
	static const char *const no[] = { "no", "false", "off", NULL };

	return v->known && is_one_of(v->text, no);
}

/* A number of steps; 0: not given, a part of all steps, or no number. */
static double steps(const struct trainer_value *v, double otherwise)
{
	char *end;
	double d;

	if (is_null(v))
		return otherwise;
	d = strtod(v->text, &end);
	return *end || !(d >= 1) ? 0 : d;
}

/* ---- the judgement ------------------------------------------------------------------------ */

struct judge {
	const struct trainer *t;
	const char *file;
	struct buf *b;
	size_t n;
};

/* "overwrite_output_dir: true in conf.yaml:12", or "... on the command line" */
static void add_place(struct judge *j, int key)
{
	const struct trainer_value *v = &j->t->v[key];

	buf_addf(j->b, "%s: %s ", names[key], v->text);
	if (v->line)
		buf_addf(j->b, "in %s:%u", j->file, v->line);
	else
		buf_adds(j->b, "on the command line");
}

static void say(struct judge *j, const char *begin, int key, const char *why, const char *remedy)
{
	buf_adds(j->b, begin);
	add_place(j, key);
	buf_addf(j->b, "%s; %s, or leave out --max-restarts\n", why, remedy);
	j->n++;
}

#define STEP_0 "a restart would begin at step 0: "

static void judge_resume(struct judge *j)
{
	const struct trainer_value *v = j->t->v;
	bool full = is_word(&v[TK_FINETUNING], "full") || is_word(&v[TK_FINETUNING], "freeze");

	if (full && (is_word(&v[TK_STAGE], "rm") || is_word(&v[TK_STAGE], "ppo"))) {
		say(j, STEP_0, TK_STAGE, " (LLaMA-Factory does not resume this stage but with lora)", "choose lora");
		return;
	}
	if (!is_null(&v[TK_RESUME]) && !is_false(&v[TK_RESUME]) && !is_word(&v[TK_RESUME], "true")) {
		say(j, "each restart would begin at this checkpoint again: ", TK_RESUME, "",
		    "leave it out once there is a newer one in output_dir, which is found by itself");
		return;
	}
	if (is_true(&v[TK_OVERWRITE]) && is_false(&v[TK_RESUME]))
		say(j, STEP_0, TK_OVERWRITE, " (checkpoints in output_dir are not looked for)", "set it to false");
	else if (!is_null(&v[TK_RESUME]) && is_false(&v[TK_RESUME]))
		say(j, STEP_0, TK_RESUME, " (only when it is left out or null the newest checkpoint is looked for)",
		    "leave it out");
}

static void judge_saving(struct judge *j)
{
	const struct trainer_value *v = j->t->v;
	double every = steps(&v[TK_SAVE_STEPS], 500), last = steps(&v[TK_MAX_STEPS], 0);
	bool by_steps = is_null(&v[TK_STRATEGY]) || is_word(&v[TK_STRATEGY], "steps");

	if (is_true(&v[TK_ONLY_MODEL]))
		say(j, STEP_0, TK_ONLY_MODEL, " (no optimizer state is saved)", "set it to false");
	if (saves_never(&v[TK_STRATEGY]))
		say(j, STEP_0, TK_STRATEGY, " (no checkpoint is saved)", "set it to steps");
	if (!by_steps || last == 0 || every < last)
		return;
	if (is_null(&v[TK_SAVE_STEPS]))
		say(j, STEP_0, TK_MAX_STEPS, " (the first checkpoint would be saved at step 500, the default of save_steps)",
		    "set save_steps to less");
	else
		say(j, STEP_0, TK_SAVE_STEPS, " (no checkpoint is saved before the last step)", "set it to less than max_steps");
}

size_t trainer_judge(const struct trainer *t, const char *file, struct buf *b)
{
	struct judge j = { t, file, b, 0 };

	if (t->v[TK_DO_TRAIN].known && is_false(&t->v[TK_DO_TRAIN]))
		return 0; /* nothing is trained */
	judge_resume(&j);
	judge_saving(&j);
	return j.n;
}

/* ---- all of it ------------------------------------------------------------------------------ */

/* NULL: not for us to say why. */
static char *read_file(const char *dir, const char *name, size_t *ret_n)
{
	struct stat st;
	char *text = NULL;
	ssize_t n = -1;
	int at = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC), fd;

	fd = at < 0 && *name != '/' ? -1 : openat(at, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= (off_t)TRAINER_FILE_MAX)
		text = malloc(TRAINER_FILE_MAX);
	if (text)
		n = read(fd, text, TRAINER_FILE_MAX);
	if (fd >= 0)
		close(fd);
	if (at >= 0)
		close(at);
	if (n < 0) {
		free(text);
		return NULL;
	}
	*ret_n = (size_t)n;
	return text;
}

/* JSON is YAML but for this: a character beyond U+FFFF is written as two escapes. */
static void hide_pairs(char *text, size_t n)
{
	for (size_t i = 0; i + 1 < n; i++) {
		if (text[i] != '\\')
			continue;
		if (i + 5 < n && text[i + 1] == 'u' && (text[i + 2] | 32) == 'd' &&
		    text[i + 3] && strchr("89abcdefABCDEF", text[i + 3]))
			memset(text + i, '?', 6);
		i++;
	}
}

/* What is given to the trainer whose first argument this is. 0; -ENOENT: it cannot be
 * read; -EINVAL: *e says why it is no YAML; or as trainer_read(). */
static int load(struct trainer *t, char *const *first, const char *dir, struct err *e)
{
	char *text;
	size_t n;
	int r;

	if (!trainer_is_file(*first)) {
		trainer_arguments(t, first, false);
		return 0;
	}
	text = read_file(dir, *first, &n);
	if (!text)
		return -ENOENT;
	if (ends_with(*first, ".json"))
		hide_pairs(text, n);
	r = trainer_read(t, text, n, e);
	free(text);
	if (r == 0)
		trainer_arguments(t, first + 1, true);
	return r;
}

size_t trainer_warn(char *const *argv, const char *dir, struct buf *b)
{
	size_t first = trainer_find(argv);
	struct trainer t = { 0 };
	struct err e;
	int r;

	if (!first || !argv[first])
		return 0;
	r = load(&t, &argv[first], dir, &e);
	if (r == -EINVAL) {
		buf_addf(b, "%s is no %s: %s\n", argv[first], ends_with(argv[first], ".json") ? "JSON" : "YAML", e.text);
		return 1;
	}
	return r < 0 ? 0 : trainer_judge(&t, trainer_is_file(argv[first]) ? argv[first] : "", b);
}

/* LLaMA-Factory's default depends on the model and the time: not guessed. */
char *trainer_log(char *const *argv, const char *dir)
{
	size_t first = trainer_find(argv);
	struct trainer t = { 0 };
	const struct trainer_value *v = &t.v[TK_OUTPUT];
	struct err e;
	char *path;

	if (!first || !argv[first] || load(&t, &argv[first], dir, &e) < 0)
		return NULL;
	if (is_null(v) || !*v->text || strlen(v->text) + 4 >= sizeof(v->text)) /* cut, perhaps */
		return NULL;
	return asprintf(&path, "%s/trainer_log.jsonl", v->text) < 0 ? NULL : path;
}
