/* trainer.h - would a restart of this training go on where it was?
 *
 * Reads what LLaMA-Factory is given (a YAML or JSON file, key=value behind it, or
 * --key value) the way it does (src/llamafactory/hparams/parser.py): it goes on
 * by itself with the newest checkpoint in output_dir, unless it is told to
 * overwrite that or to resume from somewhere. save_* are those of transformers'
 * TrainingArguments.
 *
 * Not promised: what other programs do with such a file; values behind YAML
 * aliases, merges and ${...} count as not given.
 */
#ifndef NA_CLIENT_TRAINER_H
#define NA_CLIENT_TRAINER_H

#include <stdbool.h>
#include <stddef.h>

#include "common/buf.h"
#include "common/err.h"

#define TRAINER_FILE_MAX (256u << 10) /* bytes: such files have a few KB */

enum trainer_key {
	TK_OVERWRITE, TK_RESUME, TK_ONLY_MODEL, TK_STRATEGY, TK_SAVE_STEPS, TK_MAX_STEPS, TK_STAGE, TK_FINETUNING,
	TK_DO_TRAIN, TK_OUTPUT, TK_COUNT
};

struct trainer_value {
	char text[128]; /* cut */
	bool known; /* it is given as a scalar that can be read here */
	bool quoted; /* a string whatever it looks like */
	unsigned line; /* of the file; 0: on the command line */
};

struct trainer {
	struct trainer_value v[TK_COUNT];
};

/* The first of the trainer's own arguments in this command line ("conf.yaml"); 0:
 * no trainer that is known here. */
size_t trainer_find(char *const *argv);
bool trainer_is_file(const char *arg); /* by its name, as the trainer decides it */
/* Takes the top level of a YAML text. 0, or -EINVAL and what is wrong in which line:
 * "line 12: ..."; -E2BIG: nested too deep to be read in a moment; or -ENOMEM. */
int trainer_read(struct trainer *t, const char *text, size_t n, struct err *e);
/* Arguments behind a file (key=value), or without one (--key value); NULL-terminated. */
void trainer_arguments(struct trainer *t, char *const *argv, bool behind_file);
/* Appends a line for each reason why a restart would not go on where the training
 * was; 'file' is what the user calls it. Number of them. */
size_t trainer_judge(const struct trainer *t, const char *file, struct buf *b);

/* All of it, for a command that would be started in this directory. What cannot be
 * read is left to the command itself, but a file that is no YAML is told. */
size_t trainer_warn(char *const *argv, const char *dir, struct buf *b);

/* Where the trainer of this command writes its log ("DIR/trainer_log.jsonl", relative to
 * the job's directory if output_dir is). malloc'ed; NULL: no trainer that is known here, or
 * it does not say. */
char *trainer_log(char *const *argv, const char *dir);

#endif
