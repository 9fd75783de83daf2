/* out_text.c - documents as text: lines, tables and paragraphs within a width
 *
 * A table is kept until its end, when the widths of its columns are known. If
 * it is too wide, columns that can be spared are left out; then the widest
 * column that may shrink gives way first.
 * Everything passes term_add_clean(): names come from elsewhere. */
#include "client/out.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/term.h"

#define COLUMNS_MAX 24 /* a row of GPUs and NICs, see topology.c */
#define GAP 2u
#define LEAST 8u /* a column that shrinks keeps so much */
#define FAIR 16u /* and so much before columns are left out for it */
#define DEPTH 8

struct column {
	char *title;
	unsigned flags, width;
};

struct cell {
	char *text;
	enum out_tone tone;
};

struct out_text {
	struct out out;
	unsigned columns;
	bool colour;
	enum out_form form[DEPTH];
	unsigned depth;
	unsigned hidden; /* depth within a row: nothing of it is shown */
	bool begun; /* something was printed: sections are parted by an empty line */
	bool in_lines; /* the last thing printed was a paragraph of the same OUT_LINES */
	struct column cols[COLUMNS_MAX]; /* of the table, or title and value of an object */
	unsigned n_cols;
	struct cell *cells; /* rows of COLUMNS_MAX */
	size_t n_rows, cap_rows;
};

static const char *const tones[] = { "", "\033[32m", "\033[33m", "\033[1;31m", "\033[2m" };

static enum out_form inner(const struct out_text *t)
{
	return t->depth ? t->form[t->depth - 1] : OUT_OBJECT;
}

static void drop_table(struct out_text *t)
{
	for (unsigned i = 0; i < t->n_cols; i++)
		free(t->cols[i].title);
	for (size_t i = 0; i < t->n_rows * COLUMNS_MAX; i++)
		free(t->cells[i].text);
	memset(t->cols, 0, sizeof(t->cols));
	t->n_cols = 0;
	t->n_rows = 0;
}

static bool add_row(struct out_text *t)
{
	if (t->n_rows == t->cap_rows) {
		size_t cap = t->cap_rows ? t->cap_rows * 2 : 16;
		struct cell *more = realloc(t->cells, cap * COLUMNS_MAX * sizeof(*more));

		if (!more)
			return false;
		t->cells = more;
		t->cap_rows = cap;
	}
	memset(&t->cells[t->n_rows++ * COLUMNS_MAX], 0, COLUMNS_MAX * sizeof(struct cell));
	return true;
}

static int column(struct out_text *t, const char *title, unsigned flags)
{
	for (unsigned i = 0; i < t->n_cols; i++)
		if (strcmp(t->cols[i].title, title) == 0)
			return (int)i;
	if (t->n_cols == COLUMNS_MAX)
		return -1;
	t->cols[t->n_cols] = (struct column){ strdup(title), flags, term_width(title) };
	if (!t->cols[t->n_cols].title)
		return -1;
	return (int)t->n_cols++;
}

static void set_cell(struct out_text *t, int col, const char *text, enum out_tone tone)
{
	struct cell *c;
	unsigned w;

	if (col < 0 || !t->n_rows)
		return;
	c = &t->cells[(t->n_rows - 1) * COLUMNS_MAX + (unsigned)col];
	free(c->text);
	c->text = strdup(text);
	c->tone = tone;
	w = term_width(text);
	if (c->text && w > t->cols[col].width)
		t->cols[col].width = w;
}

static void drop_column(struct out_text *t, unsigned col)
{
	free(t->cols[col].title);
	memmove(&t->cols[col], &t->cols[col + 1], (t->n_cols - col - 1) * sizeof(t->cols[0]));
	for (size_t i = 0; i < t->n_rows; i++) {
		struct cell *row = &t->cells[i * COLUMNS_MAX];

		free(row[col].text);
		memmove(&row[col], &row[col + 1], (t->n_cols - col - 1) * sizeof(*row));
		row[t->n_cols - 1].text = NULL;
	}
	memset(&t->cols[--t->n_cols], 0, sizeof(t->cols[0]));
}

/* Leaves out what can be spared, from the right, until the rest has fair room. */
static void spare(struct out_text *t)
{
	for (unsigned i = t->n_cols; i-- > 0;) {
		unsigned total = GAP * (t->n_cols - 1);

		for (unsigned k = 0; k < t->n_cols; k++) {
			bool gives = (t->cols[k].flags & OUT_SHRINK) && t->cols[k].width > FAIR;

			total += gives ? FAIR : t->cols[k].width;
		}
		if (total <= t->columns)
			return;
		if (t->cols[i].flags & OUT_SPARE)
			drop_column(t, i);
	}
}

/* Makes the table fit, as far as its columns may shrink. */
static void shrink(struct out_text *t)
{
	for (;;) {
		unsigned total = t->n_cols ? GAP * (t->n_cols - 1) : 0;
		struct column *widest = NULL;

		for (unsigned i = 0; i < t->n_cols; i++) {
			struct column *c = &t->cols[i];

			total += c->width;
			if ((c->flags & OUT_WRAP) && total > t->columns && c->width > FAIR) {
				unsigned over = total - t->columns, give = c->width - FAIR;

				c->width -= over < give ? over : give;
				total -= over < give ? over : give;
			}
			if ((c->flags & OUT_SHRINK) && c->width > LEAST &&
			    (!widest || c->width > widest->width))
				widest = c;
		}
		if (total <= t->columns || !widest)
			return;
		widest->width--;
	}
}

static void add_toned(struct out_text *t, const char *s, unsigned width, enum out_tone tone,
		      unsigned *ret_used)
{
	bool paint = t->colour && tone != OUT_PLAIN;

	if (paint)
		buf_adds(t->out.b, tones[tone]);
	*ret_used = term_add_cut(t->out.b, s, width);
	if (paint)
		buf_adds(t->out.b, "\033[0m");
}

/* The last column of a row whose text takes more than its line: b ends where it begins. */
static void add_long(struct out_text *t, const char *s, unsigned indent)
{
	struct buf text, before;

	buf_init(&text);
	buf_init(&before);
	term_add_spaces(&before, indent);
	term_add_wrapped(&text, s, buf_str(&before), buf_str(&before), t->columns);
	if (text.len > indent)
		buf_add(t->out.b, text.data + indent, text.len - indent - 1); /* its newline is the row's */
	buf_finish(&text);
	buf_finish(&before);
}

/* The same where hardly anything is left of the line: below it, so much indented. */
#define BELOW 4u

static void add_below(struct out_text *t, const char *s)
{
	buf_addc(t->out.b, '\n');
	term_add_spaces(t->out.b, BELOW);
	add_long(t, s, BELOW);
}

/* One line; blanks are written only before something. */
static void print_row(struct out_text *t, const struct cell *row)
{
	unsigned owed = 0, left = t->columns;

	for (unsigned i = 0; i < t->n_cols && (left || (row && (t->cols[i].flags & OUT_WRAP))); i++) {
		const char *s = row ? (row[i].text ? row[i].text : "") : t->cols[i].title;
		unsigned w = t->cols[i].width < left ? t->cols[i].width : left, have = term_width(s);
		unsigned before = (t->cols[i].flags & OUT_RIGHT) && have < w ? w - have : 0, used = 0;

		if (*s && row && (t->cols[i].flags & OUT_WRAP) && have > w && left < FAIR) {
			add_below(t, s);
			break;
		}
		if (*s) {
			term_add_spaces(t->out.b, owed + before);
			if ((t->cols[i].flags & OUT_WRAP) && have > w) {
				add_long(t, s, t->columns - left);
				break;
			}
			add_toned(t, s, w - before, row ? row[i].tone : OUT_DIM, &used);
			owed = 0;
			used += before;
		}
		owed += w - used + GAP;
		left = left > w + GAP ? left - w - GAP : 0;
	}
	buf_addc(t->out.b, '\n');
}

static void part(struct out_text *t)
{
	if (t->begun)
		buf_addc(t->out.b, '\n');
	t->begun = true;
}

static void print_table(struct out_text *t)
{
	if (t->n_rows && t->n_cols) {
		part(t);
		spare(t);
		shrink(t);
		print_row(t, NULL);
		for (size_t i = 0; i < t->n_rows; i++)
			print_row(t, &t->cells[i * COLUMNS_MAX]);
	}
	drop_table(t);
}

/* "title  value" lines; long values go on under their begin. */
static void print_pairs(struct out_text *t)
{
	unsigned width = t->n_cols ? t->cols[0].width + GAP : 0;
	struct buf first, rest;

	if (!t->n_rows)
		return;
	part(t);
	buf_init(&first);
	buf_init(&rest);
	term_add_spaces(&rest, width);
	for (size_t i = 0; i < t->n_rows; i++) {
		const struct cell *row = &t->cells[i * COLUMNS_MAX];

		if (!row[0].text || !row[1].text)
			continue;
		buf_reset(&first);
		buf_adds(&first, row[0].text);
		term_add_spaces(&first, width - term_width(row[0].text));
		term_add_wrapped(t->out.b, row[1].text, buf_str(&first), buf_str(&rest), t->columns);
	}
	buf_finish(&first);
	buf_finish(&rest);
	drop_table(t);
}

static void text_start(struct out *o, const char *key, enum out_form form)
{
	struct out_text *t = (struct out_text *)o;

	if (t->hidden || inner(t) == OUT_ROW) {
		t->hidden++;
		return;
	}
	if (form == OUT_ROW)
		add_row(t);
	else
		print_pairs(t);
	t->in_lines = false;
	t->form[t->depth++] = form;
}

static void text_end(struct out *o)
{
	struct out_text *t = (struct out_text *)o;
	enum out_form form;

	if (t->hidden) {
		t->hidden--;
		return;
	}
	form = t->form[--t->depth];
	if (form == OUT_TABLE)
		print_table(t);
	else if (form == OUT_OBJECT)
		print_pairs(t);
	if (!t->depth)
		t->begun = false;
}

static void value_text(struct buf *b, const struct out_attr *a)
{
	switch (a->kind) {
	case OUT_STR:
		term_add_clean(b, a->s, strlen(a->s));
		break;
	case OUT_INT:
		buf_addf(b, "%" PRId64, a->i);
		break;
	case OUT_UINT:
		buf_addf(b, "%" PRIu64, a->u);
		break;
	case OUT_NUM:
		buf_addf(b, "%g", a->d);
		break;
	case OUT_BOOL:
		buf_adds(b, a->b ? "yes" : "no");
		break;
	case OUT_STRS:
	case OUT_NUMS:
		for (size_t i = 0; i < a->n; i++) {
			if (i)
				buf_addc(b, ',');
			term_add_clean(b, a->strs[i], strlen(a->strs[i]));
		}
		break;
	case OUT_NULL:
		break;
	}
	if (!b->len && !(a->kind == OUT_STR && a->s[0] == '\0')) /* empty is known to be empty */
		buf_addc(b, '-');
}

static void text_attr(struct out *o, const struct out_attr *a)
{
	struct out_text *t = (struct out_text *)o;
	struct buf b;

	if (!a->title || t->hidden)
		return;
	buf_init(&b);
	value_text(&b, a);
	if (inner(t) == OUT_ROW) {
		set_cell(t, column(t, a->title, a->flags), buf_str(&b), a->tone);
	} else if (add_row(t)) {
		set_cell(t, column(t, "", 0), a->title, OUT_PLAIN);
		set_cell(t, column(t, "value", 0), buf_str(&b), a->tone);
	}
	buf_finish(&b);
}

/* Columns that the last line of b takes. */
static unsigned last_width(struct buf *b)
{
	const char *s = buf_str(b), *p;

	for (p = s + b->len; p > s && p[-1] != '\n'; p--)
		;
	return term_width(p);
}

/* Clause after clause: on the line where the last one ended if it fits there. */
static void add_clauses(struct buf *b, const char *text, unsigned columns)
{
	const char *first = "! ";

	while (*text) {
		const char *end = strstr(text, "  ");
		char *clause = end ? strndup(text, (size_t)(end - text)) : strdup(text);

		if (!clause)
			return;
		if (b->len && last_width(b) + 2 + term_width(clause) <= columns) {
			buf_adds(b, "  ");
			term_add_clean(b, clause, strlen(clause));
		} else {
			if (b->len)
				buf_addc(b, '\n');
			term_add_wrapped(b, clause, first, "  ", columns);
			b->len -= b->len > 0; /* its newline */
		}
		first = "  ";
		text += strlen(clause);
		text += strspn(text, " ");
		free(clause);
	}
}

static void print_line(struct out_text *t, const char *text, enum out_tone tone)
{
	struct buf b;
	const char *s;

	buf_init(&b);
	add_clauses(&b, text, t->columns);
	s = buf_str(&b);
	if (t->colour && tone != OUT_PLAIN && *s) { /* only the mark: the sentence is to be read */
		buf_adds(t->out.b, tones[tone]);
		buf_addc(t->out.b, *s++);
		buf_adds(t->out.b, "\033[0m");
	}
	buf_adds(t->out.b, s);
	buf_addc(t->out.b, '\n');
	buf_finish(&b);
}

static void text_data(struct out *o, const char *key, const char *text, enum out_tone tone)
{
	struct out_text *t = (struct out_text *)o;
	bool lines = inner(t) == OUT_LINES;

	if (t->hidden)
		return;
	print_pairs(t);
	if (lines && !t->in_lines)
		part(t);
	t->in_lines = lines;
	t->begun = true;
	if (lines)
		print_line(t, text, tone);
	else
		term_add_wrapped(o->b, text, "", "", t->columns);
}

static void text_destroy(struct out *o)
{
	struct out_text *t = (struct out_text *)o;

	drop_table(t);
	free(t->cells);
	free(t);
}

struct out *out_text_create(struct buf *b, unsigned columns, bool colour)
{
	static const struct out_ops ops = { text_start, text_attr, text_data, text_end,
					    text_destroy };
	struct out_text *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	t->out = (struct out){ &ops, b };
	t->columns = columns;
	t->colour = colour;
	return &t->out;
}
