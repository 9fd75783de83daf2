/* tree.h - a folder of our own under /tmp, to be filled with files like sysfs's */
#ifndef NA_TESTS_TREE_H
#define NA_TESTS_TREE_H

#include <stdint.h>

struct hw_options;
struct hw_ops;
struct hw_readings;

/* Makes an empty one, to be removed with tree_remove(). */
void tree_make(char root[64]);
void tree_remove(const char *root);
/* A file with folders above it. The text gets a newline. */
void tree_file(const char *root, const char *path, const char *text);
void tree_bytes(const char *root, const char *path, const void *p, unsigned long n);
void tree_link(const char *root, const char *path, const char *target);
void tree_fifo(const char *root, const char *path);
void tree_unlink(const char *root, const char *path); /* a file, or a folder and all beneath */
/* class/infiniband/DEVICE/ports/PORT with all files of a healthy NDR port. */
void tree_port(const char *root, const char *device, unsigned port);
/* One file of a port. */
void tree_port_file(const char *root, const char *device, unsigned port, const char *name,
		    const char *text);
/* "DIR of this program/../fake/NAME" */
const char *tree_fake(const char *name);

#endif
