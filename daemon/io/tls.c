/* tls.c - keys, certificates and the one SSL_CTX of a process
 *
 * A certificate is only the carrier of an Ed25519 key: nothing in it but the
 * key is looked at, and possession of the key is proved by the handshake.
 * Whether the key is welcome is decided elsewhere: by the pin when we dial
 * (tls_pin), by the registry when we accept.
 *
 * No OpenSSL configuration file is read and no error strings are loaded:
 * half a megabyte that a daemon at rest would carry for nothing. */
#include "io/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "io/files.h"

#define CERT_CHAIN_MAX 4096 /* bytes of a peer's Certificate message; ours has about 300 */

struct tls_context {
	SSL_CTX *ctx;
	uint8_t key[KEY_HASH];
};

static void tls_init(void)
{
	OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_LOAD_SSL_STRINGS, NULL);
}

void tls_sha256(const void *p, size_t n, uint8_t out[32])
{
	SHA256(p, n, out);
}

/* SHA-256 of the SubjectPublicKeyInfo. */
static int spki_hash(const X509 *cert, uint8_t out[KEY_HASH])
{
	unsigned char *der = NULL;
	int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);

	if (n <= 0)
		return -EINVAL;

	SHA256(der, (size_t)n, out);
	OPENSSL_free(der);
	return 0;
}

static bool is_ed25519(const X509 *cert)
{
	EVP_PKEY *key = X509_get0_pubkey(cert);

	return key && EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519;
}

/* ---- making an identity ------------------------------------------------- */

static X509 *make_certificate(EVP_PKEY *key)
{
	X509 *x = X509_new();
	X509_NAME *name;

	if (!x)
		return NULL;

	/* The widest validity X.509 can say: nobody checks it. */
	name = X509_get_subject_name(x);
	if (X509_set_version(x, 2) && ASN1_INTEGER_set(X509_get_serialNumber(x), 1) &&
	    ASN1_TIME_set_string(X509_getm_notBefore(x), "19700101000000Z") &&
	    ASN1_TIME_set_string(X509_getm_notAfter(x), "99991231235959Z") &&
	    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
				       (const unsigned char *)"nodeagent", -1, -1, 0) &&
	    X509_set_issuer_name(x, name) && X509_set_pubkey(x, key) && X509_sign(x, key, NULL))
		return x;

	X509_free(x);
	return NULL;
}

/* Text of a key or a certificate through a memory BIO. */
static int save_pem(const char *path, EVP_PKEY *key, X509 *cert, struct err *e)
{
	BIO *b = BIO_new(BIO_s_mem());
	char *p = NULL;
	long n;
	int r, ok;

	if (!b)
		return err_set(e, ENOMEM, "out of memory");

	ok = key ? PEM_write_bio_PKCS8PrivateKey(b, key, NULL, NULL, 0, NULL, NULL)
		 : PEM_write_bio_X509(b, cert);
	n = BIO_get_mem_data(b, &p);
	if (!ok || n <= 0)
		r = err_set(e, EIO, "cannot encode %s", path);
	else
		r = file_save(path, p, (size_t)n, 0600, e);
	if (p && n > 0)
		OPENSSL_cleanse(p, (size_t)n);
	BIO_free(b);
	return r;
}

/* A key that others can read is no identity any more. */
static FILE *open_key(const char *path, struct err *e)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	FILE *f;

	if (fd < 0) {
		err_set(e, errno, "cannot open %s: %s", path, strerror(errno));
		return NULL;
	}

	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		err_set(e, EINVAL, "%s is not a regular file", path);
	} else if (st.st_mode & 077) {
		err_set(e, EPERM,
			"%s can be read by others (mode %04o): it is a private key. If nobody "
			"can have copied it, run: chmod 600 %s; else remove the node and join again",
			path, (unsigned)st.st_mode & 07777, path);
	} else if ((f = fdopen(fd, "r"))) {
		return f;
	} else {
		err_set(e, ENOMEM, "out of memory");
	}
	close(fd);
	return NULL;
}

static EVP_PKEY *load_key(const char *path, struct err *e)
{
	FILE *f = open_key(path, e);
	EVP_PKEY *key;

	if (!f)
		return NULL;

	setvbuf(f, NULL, _IONBF, 0); /* leaves no copy of the key behind */
	key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
	fclose(f);
	if (key && EVP_PKEY_get_base_id(key) == EVP_PKEY_ED25519)
		return key;

	EVP_PKEY_free(key);
	ERR_clear_error();
	err_set(e, EINVAL, "%s does not hold an Ed25519 private key", path);
	return NULL;
}

static EVP_PKEY *load_or_make_key(const char *path, struct err *e)
{
	EVP_PKEY *key;

	if (access(path, F_OK) == 0)
		return load_key(path, e);

	key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	if (!key) {
		err_set(e, EIO, "cannot make an Ed25519 key (OpenSSL error %lx)",
			ERR_get_error());
		return NULL;
	}
	if (save_pem(path, key, NULL, e) < 0) {
		EVP_PKEY_free(key);
		return NULL;
	}
	return key;
}

static int state_paths(const char *dir, char key[PATH_MAX], char cert[PATH_MAX], struct err *e)
{
	if (snprintf(key, PATH_MAX, "%s/key.pem", dir) >= PATH_MAX ||
	    snprintf(cert, PATH_MAX, "%s/cert.pem", dir) >= PATH_MAX)
		return err_set(e, ENAMETOOLONG, "%s: the path is too long", dir);
	return 0;
}

int tls_make_identity(const char *state_dir, struct err *e)
{
	char key_path[PATH_MAX], cert_path[PATH_MAX];
	EVP_PKEY *key;
	X509 *cert;
	int r = state_paths(state_dir, key_path, cert_path, e);

	if (r < 0)
		return r;

	tls_init();
	key = load_or_make_key(key_path, e);
	if (!key)
		return e && e->code ? e->code : -EIO;

	if (access(cert_path, F_OK) < 0) {
		cert = make_certificate(key);
		r = cert ? save_pem(cert_path, NULL, cert, e)
			 : err_set(e, EIO, "cannot make a certificate for %s", key_path);
		X509_free(cert);
	}
	EVP_PKEY_free(key);
	return r;
}

/* ---- the context -------------------------------------------------------- */

/* One certificate with an Ed25519 key, and the pinned one if there is a pin.
 * Names, dates, issuer and extensions mean nothing here. */
static int on_verify(X509_STORE_CTX *store, void *arg)
{
	SSL *s = X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx());
	X509 *cert = X509_STORE_CTX_get0_cert(store);
	STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(store);
	const uint8_t *pin = s ? SSL_get_app_data(s) : NULL;
	uint8_t hash[KEY_HASH];

	if (!cert || !is_ed25519(cert) || sk_X509_num(chain) > 1 || spki_hash(cert, hash) < 0) {
		X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
		return 0;
	}
	if (pin && CRYPTO_memcmp(pin, hash, KEY_HASH) != 0) {
		X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_UNTRUSTED);
		return 0;
	}
	X509_STORE_CTX_set_error(store, X509_V_OK);
	return 1;
}

static int configure(SSL_CTX *c)
{
	SSL_CTX_set_options(c, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
				       SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(c, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(c, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_max_early_data(c, 0);
	SSL_CTX_set_recv_max_early_data(c, 0);
	SSL_CTX_set_max_cert_list(c, CERT_CHAIN_MAX);
	SSL_CTX_set_verify(c, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_cert_verify_callback(c, on_verify, NULL);
	return SSL_CTX_set_num_tickets(c, 0) &&
	       SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) &&
	       SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION) &&
	       SSL_CTX_set_ciphersuites(
		       c, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256") &&
	       SSL_CTX_set1_sigalgs_list(c, "ed25519") && SSL_CTX_set1_groups_list(c, "X25519");
}

/* A lost certificate is made again: it carries nothing but the key. */
static int use_certificate(SSL_CTX *c, const char *path, EVP_PKEY *key, struct err *e)
{
	X509 *cert;
	int ok;

	if (access(path, F_OK) == 0) {
		if (SSL_CTX_use_certificate_file(c, path, SSL_FILETYPE_PEM) == 1)
			return 0;
		return err_set(e, EINVAL, "cannot read the certificate %s; remove it, and it is made "
			       "again", path);
	}
	cert = make_certificate(key);
	ok = cert && SSL_CTX_use_certificate(c, cert) == 1;
	X509_free(cert);
	return ok ? 0 : err_set(e, EIO, "cannot make a certificate");
}

static int use_identity(struct tls_context *t, const char *dir, struct err *e)
{
	char key_path[PATH_MAX], cert_path[PATH_MAX];
	EVP_PKEY *key;
	int r = state_paths(dir, key_path, cert_path, e);

	if (r < 0)
		return r;
	key = load_key(key_path, e);
	if (!key)
		return e->code;

	r = use_certificate(t->ctx, cert_path, key, e);
	if (r == 0 && SSL_CTX_use_PrivateKey(t->ctx, key) != 1)
		r = err_set(e, EINVAL, "%s does not belong to %s; remove it, and it is made again",
			    cert_path, key_path);
	if (r == 0 && spki_hash(SSL_CTX_get0_certificate(t->ctx), t->key) < 0)
		r = err_set(e, EINVAL, "cannot read the public key in %s", cert_path);
	ERR_clear_error();
	EVP_PKEY_free(key);
	return r;
}

int tls_context_create(const char *state_dir, struct tls_context **ret, struct err *e)
{
	struct err local = { 0 };
	struct tls_context *t = calloc(1, sizeof(*t));
	int r;

	tls_init();
	e = e ? e : &local;
	e->code = 0;
	if (t)
		t->ctx = SSL_CTX_new(TLS_method());
	if (!t || !t->ctx || !configure(t->ctx)) {
		tls_context_destroy(t);
		return err_set(e, ENOMEM, "cannot set up TLS 1.3 (OpenSSL error %lx)",
			       ERR_get_error());
	}

	r = use_identity(t, state_dir, e);
	if (r < 0) {
		tls_context_destroy(t);
		return r;
	}
	*ret = t;
	return 0;
}

void tls_context_destroy(struct tls_context *t)
{
	if (!t)
		return;

	SSL_CTX_free(t->ctx);
	free(t);
}

const uint8_t *tls_own_key(const struct tls_context *t)
{
	return t->key;
}

SSL *tls_new(struct tls_context *t, int server)
{
	SSL *s = SSL_new(t->ctx);

	if (!s)
		return NULL;

	if (server)
		SSL_set_accept_state(s);
	else
		SSL_set_connect_state(s);
	return s;
}

void tls_pin(SSL *s, const uint8_t *pin)
{
	SSL_set_app_data(s, (void *)(uintptr_t)pin);
}

int tls_peer_key(SSL *s, uint8_t out[KEY_HASH])
{
	X509 *cert = SSL_get0_peer_certificate(s);

	if (!cert || SSL_get_verify_result(s) != X509_V_OK)
		return -ENOENT;
	return spki_hash(cert, out);
}
