/* list.h - intrusive doubly linked list with a sentinel head */
#ifndef NA_COMMON_LIST_H
#define NA_COMMON_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
	struct list *next, *prev;
};

#define LIST_HEAD_INIT(h) { &(h), &(h) }

static inline void list_init(struct list *l)
{
	l->next = l->prev = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

static inline void list_append(struct list *head, struct list *e)
{
	e->prev = head->prev;
	e->next = head;
	head->prev->next = e;
	head->prev = e;
}

/* Removes e from its list; removing twice is harmless. */
static inline void list_remove(struct list *e)
{
	e->prev->next = e->next;
	e->next->prev = e->prev;
	e->next = e->prev = e;
}

#define list_entry(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

#define list_foreach(e, head) for (struct list *e = (head)->next; e != (head); e = e->next)

/* The current entry may be removed (and freed) in the body. */
#define list_foreach_safe(e, head)                                                       \
	for (struct list *e = (head)->next, *e##_next = e->next; e != (head);            \
	     e = e##_next, e##_next = e->next)

#endif
