/* load: a closed-loop HTTP/1.1 load generator that speaks to a forward proxy, or to the origin itself.
 *
 *   load [-x PROXY_PORT] [options]         everything is on 127.0.0.1; -h lists the options
 *
 * 1. Every connection has one request under way. The next one starts when the answer's last byte came.
 * 2. Two lines of JSON: `{"window":"open"}` when the measured window opens, so that the caller can read the proxy's
 *    CPU time there, and the figures when it has closed. An answer counts if its last byte came inside the window;
 *    body bytes (both ways) count when they pass.
 * 3. An answer that is not what was asked for is an error, never a success: status, length, certificate.
 *
 * build: cc -O2 -Wall -Wextra -o load load.c -lssl -lcrypto */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_MAX = 16384, BLOCK = 65536, EVENTS = 512, TURNS = 16, OPENING_AT_ONCE = 64 };
static const double BACK_OFF = 0.002, STALLED = 30;

/* What was asked for on the command line. */
static struct {
    int proxy_port, origin_port, tls, fresh, refused, hold, connections;
    double seconds, warm_up;
    const char *host, *path, *ca_file;
    long post, expected, enough;
} opt = {.origin_port = 80, .connections = 16, .seconds = 2, .host = "allowed.test", .path = "/", .expected = -1};

/* What a connection is about to do. */
enum state { IDLE, CONNECTING, ASK_TUNNEL, READ_TUNNEL, HANDSHAKE, ASK, SEND_BODY, READ_HEAD, READ_BODY, HELD };
/* Where a chunked body is. */
enum chunk { SIZE, EXTENSION, DATA, DATA_END, TRAILER, TRAILER_LINE, WHOLE };

struct connection {
    enum state state;
    enum chunk chunk;
    int fd, watched, status, chunked, closes, unfinished;
    long length, got, chunk_left, sent, served;
    double began, moved;
    SSL *ssl;
    int held;
    char head[HEAD_MAX];
};

static struct {
    long answered, failed, opened, held;
    long long bytes;
    uint32_t *latencies; /* microseconds */
    size_t count, room;
    char first_error[160];
} seen;

static struct sockaddr_in peer;
static char tunnel_request[1024], request[2048];
static int tunnel_request_length, request_length, poller, opening;
static SSL_CTX *context;
static double opens_at, closes_at;
static char block[BLOCK], zeros[BLOCK];

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec * 1e-9;
}

static int measured(double at) { return at >= opens_at && at < closes_at; }

static void watch(struct connection *c, int events) {
    if (c->watched == events) return;
    struct epoll_event wanted = {.events = events, .data.ptr = c};
    epoll_ctl(poller, c->watched ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &wanted);
    c->watched = events;
}

static void end(struct connection *c) {
    if (c->ssl) SSL_free(c->ssl);
    if (c->fd >= 0) close(c->fd);
    if (c->state > IDLE && c->state < ASK) opening--;
    *c = (struct connection){.fd = -1, .began = c->began};
}

static void fail(struct connection *c, const char *what) {
    double at = now();
    if (measured(at)) seen.failed++;
    if (!seen.first_error[0]) {
        const char *reason = ERR_reason_error_string(ERR_peek_last_error());
        snprintf(seen.first_error, sizeof seen.first_error, "%s: status %d, %s, %s", what, c->status,
                 errno ? strerror(errno) : "no errno", reason ? reason : "no TLS error");
    }
    ERR_clear_error();
    errno = 0;
    end(c);
    c->began = at + BACK_OFF;
}

/* What an SSL call asks for: 0 to come back later, -1 for an error. */
static int later(struct connection *c, int result) {
    switch (SSL_get_error(c->ssl, result)) {
    case SSL_ERROR_WANT_READ: watch(c, EPOLLIN); return 0;
    case SSL_ERROR_WANT_WRITE: watch(c, EPOLLOUT); return 0;
    default: return -1;
    }
}

static int put(struct connection *c, const char *data, int length) {
    int wrote = c->ssl ? SSL_write(c->ssl, data, length) : (int)send(c->fd, data, length, MSG_NOSIGNAL);
    if (wrote > 0) return wrote;
    if (c->ssl) return later(c, wrote);
    if (errno != EAGAIN) return -1;
    errno = 0;
    watch(c, EPOLLOUT);
    return 0;
}

/* Bytes read; 0 to come back later; -1 for an error; -2 at the end. */
static int get(struct connection *c, char *into, int room) {
    int got = c->ssl ? SSL_read(c->ssl, into, room) : (int)recv(c->fd, into, room, 0);
    if (got > 0) return got;
    if (c->ssl) return SSL_get_error(c->ssl, got) == SSL_ERROR_ZERO_RETURN ? -2 : later(c, got);
    if (got == 0) return -2;
    if (errno != EAGAIN) return -1;
    errno = 0;
    watch(c, EPOLLIN);
    return 0;
}

static void open_connection(struct connection *c) {
    int yes = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    c->watched = 0;
    c->state = CONNECTING;
    opening++;
    seen.opened++;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    if (opt.fresh) { /* a reset in place of TIME_WAIT: the ports of thousands of connections are free at once */
        struct linger reset = {1, 0};
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    }
    if (connect(c->fd, (void *)&peer, sizeof peer) < 0 && errno != EINPROGRESS) { fail(c, "connect"); return; }
    errno = 0;
    watch(c, EPOLLOUT);
}

static void passed(long bytes) { if (measured(now())) seen.bytes += bytes; }

static void answer_is_whole(struct connection *c) {
    double at = now();
    int good = opt.refused ? c->status >= 400 && c->status < 500 : c->status == 200;
    if (good && !opt.refused && opt.expected >= 0 && c->got != opt.expected) good = 0;
    if (!good) { fail(c, "another answer than expected"); return; }
    if (measured(at)) {
        seen.answered++;
        if (seen.count == seen.room) {
            seen.room = seen.room ? seen.room * 2 : 65536;
            seen.latencies = realloc(seen.latencies, seen.room * sizeof *seen.latencies);
            if (!seen.latencies) abort();
        }
        seen.latencies[seen.count++] = (uint32_t)((at - c->began) * 1e6);
    }
    if (opt.fresh || c->closes) end(c);
    else { c->state = IDLE; c->served++; }
    c->began = at;
}

static int hexadecimal(char digit) {
    if (digit >= '0' && digit <= '9') return digit - '0';
    char small = digit | 32;
    return small >= 'a' && small <= 'f' ? small - 'a' + 10 : -1;
}

/* Eat what came of a chunked body. */
static void eat_chunks(struct connection *c, const char *data, int length) {
    for (int at = 0; at < length && c->chunk != WHOLE;) {
        if (c->chunk == DATA) {
            long take = length - at < c->chunk_left ? length - at : c->chunk_left;
            at += take, c->got += take, c->chunk_left -= take;
            passed(take);
            if (!c->chunk_left) c->chunk = DATA_END;
            continue;
        }
        char byte = data[at++];
        switch (c->chunk) {
        case SIZE:
            if (hexadecimal(byte) >= 0) { c->chunk_left = c->chunk_left * 16 + hexadecimal(byte); break; }
            if (byte != '\n') { c->chunk = byte == '\r' ? SIZE : EXTENSION; break; }
            c->chunk = c->chunk_left ? DATA : TRAILER;
            break;
        case EXTENSION: if (byte == '\n') c->chunk = c->chunk_left ? DATA : TRAILER; break;
        case DATA_END: if (byte == '\n') c->chunk = SIZE; break;
        case TRAILER: c->chunk = byte == '\n' ? WHOLE : byte == '\r' ? TRAILER : TRAILER_LINE; break;
        case TRAILER_LINE: if (byte == '\n') c->chunk = TRAILER; break;
        default: break;
        }
    }
}

static void read_fields(struct connection *c, const char *line) {
    for (; line; line = strstr(line, "\r\n")) {
        line += 2;
        if (!strncasecmp(line, "content-length:", 15)) c->length = atol(line + 15);
        else if (!strncasecmp(line, "transfer-encoding: chunked", 26)) c->chunked = 1;
        else if (!strncasecmp(line, "connection: close", 17)) c->closes = 1;
        else if (!strncasecmp(line, "connection: keep-alive", 22)) c->closes = 0;
    }
}

/* The length of the head; 0 if it is not whole, -1 if it is none. */
static int read_head(struct connection *c) {
    char *blank = memmem(c->head, c->held, "\r\n\r\n", 4);
    if (!blank) return c->held >= HEAD_MAX - 1 ? -1 : 0;
    if (memcmp(c->head, "HTTP/1.", 7)) return -1;
    *blank = 0;
    c->status = atoi(c->head + 9);
    c->closes = c->head[7] == '0';
    c->length = -1, c->chunked = 0, c->got = 0, c->chunk = SIZE, c->chunk_left = 0;
    read_fields(c, strstr(c->head, "\r\n"));
    if (c->length < 0 && !c->chunked) c->closes = 1;
    return blank + 4 - c->head;
}

static int body_is_whole(const struct connection *c) {
    return c->chunked ? c->chunk == WHOLE : c->length >= 0 && c->got >= c->length;
}

static void eat(struct connection *c, const char *data, int length) {
    if (c->chunked) eat_chunks(c, data, length);
    else c->got += length, passed(length);
    if (body_is_whole(c)) answer_is_whole(c);
}

/* Each function does one step of its state. 1: go on at once; 0: wait for the poller. */

static int connected(struct connection *c) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) { errno = error; fail(c, "connect"); return 0; }
    c->sent = 0;
    if (opt.proxy_port && (opt.tls || opt.hold)) c->state = ASK_TUNNEL;
    else if (opt.tls) c->state = HANDSHAKE;
    else c->state = ASK, opening--;
    return 1;
}

/* A kept connection that was closed under us: the same request again, on a new one. */
static int again(struct connection *c) {
    double began = c->began;
    if (!c->served) return 0;
    ERR_clear_error();
    errno = 0;
    end(c);
    c->began = began;
    return 1;
}

static int ask(struct connection *c, const char *text, int length, enum state next) {
    int wrote = put(c, text + c->sent, length - c->sent);
    if (wrote < 0) { if (!again(c)) fail(c, "write"); return 0; }
    if (!wrote) return 0;
    c->sent += wrote;
    if (c->sent < length) return 1;
    c->state = next, c->held = 0, c->sent = 0;
    watch(c, EPOLLIN);
    return 1;
}

static int send_body(struct connection *c) {
    long left = opt.post - c->sent;
    int wrote = put(c, zeros, left < BLOCK ? (int)left : BLOCK);
    if (wrote < 0) { fail(c, "write of the body"); return 0; }
    if (!wrote) return 0;
    c->sent += wrote, c->moved = now();
    passed(wrote);
    if (c->sent == opt.post) c->state = READ_HEAD, c->held = 0, watch(c, EPOLLIN);
    return 1;
}

/* More of a head. Its length once it is whole, 0 to go on, -1 to wait, -2 if the connection is gone. */
static int more_head(struct connection *c, const char *what) {
    int got = get(c, c->head + c->held, HEAD_MAX - 1 - c->held);
    if (got == 0) return -1;
    if (got < 0) {
        if (c->held || !again(c)) fail(c, what);
        return -2;
    }
    c->held += got, c->moved = now();
    int length = read_head(c);
    if (length < 0) { fail(c, "no HTTP head"); return -2; }
    return length;
}

static int read_tunnel(struct connection *c) {
    int length = more_head(c, "closed before CONNECT was answered");
    if (length <= 0) return length == 0;
    if (opt.refused && c->status >= 300) { c->closes = 1; answer_is_whole(c); return 1; }
    if (c->status != 200) { fail(c, "CONNECT refused"); return 0; }
    c->held = 0, c->sent = 0;
    if (opt.hold) { c->state = HELD, opening--, seen.held++; return 0; }
    c->state = HANDSHAKE;
    return 1;
}

static int handshake(struct connection *c) {
    if (!c->ssl) {
        c->ssl = SSL_new(context);
        SSL_set_fd(c->ssl, c->fd);
        SSL_set_tlsext_host_name(c->ssl, opt.host);
        SSL_set1_host(c->ssl, opt.host);
        SSL_set_connect_state(c->ssl);
    }
    int done = SSL_do_handshake(c->ssl);
    if (done == 1) { c->state = ASK, opening--; return 1; }
    if (later(c, done) < 0) fail(c, "TLS handshake");
    return 0;
}

static int read_answer(struct connection *c) {
    int length = more_head(c, "closed before an answer");
    if (length <= 0) return length == 0 || length == -2;
    while (length > 0 && c->status < 200) { /* an interim answer; the next head may have come with it */
        memmove(c->head, c->head + length, c->held -= length);
        length = read_head(c);
    }
    if (length < 0) fail(c, "no HTTP head");
    if (length <= 0) return 1;
    c->state = READ_BODY;
    eat(c, c->head + length, c->held - length);
    return 1;
}

static int read_body(struct connection *c) {
    int got = get(c, block, sizeof block);
    if (!got) return 0;
    c->moved = now();
    if (got > 0) eat(c, block, got);
    else if (!c->chunked && c->length < 0) answer_is_whole(c);
    else fail(c, "closed inside a body");
    return 1;
}

static int begin(struct connection *c) {
    double at = now();
    if (at >= closes_at || c->began > at || (opt.enough && seen.answered >= opt.enough)) return 0;
    c->began = c->moved = at;
    if (c->fd >= 0) { c->state = ASK, c->sent = 0; return 1; }
    if (opening < OPENING_AT_ONCE) open_connection(c);
    return 0;
}

static void drive(struct connection *c) {
    c->unfinished = 0;
    for (int turns = 0, on = 1; on; turns++) {
        if (turns == TURNS) { c->unfinished = 1; return; } /* a big body does not starve the others */
        switch (c->state) {
        case IDLE: on = begin(c); break;
        case CONNECTING: on = connected(c); break;
        case ASK_TUNNEL: on = ask(c, tunnel_request, tunnel_request_length, READ_TUNNEL); break;
        case READ_TUNNEL: on = read_tunnel(c); break;
        case HANDSHAKE: on = handshake(c); break;
        case ASK: on = ask(c, request, request_length, opt.post ? SEND_BODY : READ_HEAD); break;
        case SEND_BODY: on = send_body(c); break;
        case READ_HEAD: on = read_answer(c); break;
        case READ_BODY: on = read_body(c); break;
        case HELD: fail(c, "a held tunnel was closed"), seen.held--, on = 0; break;
        }
    }
}

/* Look after what no event tells of: connections to begin, to go on with, and stalled ones. */
static int sweep(struct connection *all, double at) {
    int unfinished = 0;
    for (int i = 0; i < opt.connections; i++) {
        struct connection *c = &all[i];
        if (c->unfinished || (c->state == IDLE && c->began <= at)) drive(c);
        else if (c->state != IDLE && c->state != HELD && at - c->moved > STALLED) errno = ETIMEDOUT, fail(c, "stalled");
        unfinished |= c->unfinished;
    }
    return unfinished;
}

static void window_is_open(void) {
    printf("{\"window\":\"open\",\"held\":%ld}\n", seen.held);
    fflush(stdout);
}

/* When held connections are what is measured, the window opens when all of them stand. */
static void wait_for_held(double at) {
    if (opt.hold && opens_at > at && (seen.held == opt.connections || seen.failed || seen.first_error[0]))
        opens_at = at, closes_at = at + opt.seconds;
}

static void run(struct connection *all) {
    struct epoll_event ready[EVENTS];
    int unfinished = 0, told = 0;
    double swept = 0, at;
    while ((at = now()) < closes_at && (!opt.enough || seen.answered < opt.enough)) {
        wait_for_held(at);
        if (!told && at >= opens_at) { window_is_open(); told = 1; }
        if (unfinished || at - swept > 0.005) { unfinished = sweep(all, at); swept = at; }
        int count = epoll_wait(poller, ready, EVENTS, unfinished ? 0 : 5);
        for (int i = 0; i < count; i++) {
            struct connection *c = ready[i].data.ptr;
            if (c->fd < 0) continue;
            if (c->state == IDLE) end(c); /* a kept connection was closed while it waited */
            drive(c);
        }
    }
    if (!told) window_is_open();
    if (at < closes_at) closes_at = at;
}

static int by_size(const void *left, const void *right) {
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return a < b ? -1 : a > b;
}

static uint32_t percentile(double share) {
    return seen.count ? seen.latencies[(size_t)((seen.count - 1) * share)] : 0;
}

static void report(double cpu) {
    if (seen.count) qsort(seen.latencies, seen.count, sizeof *seen.latencies, by_size);
    for (char *c = seen.first_error; *c; c++) if (*c == '"' || *c == '\\' || *c < 32) *c = '\'';
    printf("{\"seconds\":%.3f,\"answered\":%ld,\"failed\":%ld,\"held\":%ld,\"opened\":%ld,\"bytes\":%lld,\"p50_us\":%u,"
           "\"p90_us\":%u,\"p99_us\":%u,\"max_us\":%u,\"load_cpu_seconds\":%.3f,\"first_error\":\"%s\"}\n",
           closes_at - opens_at, seen.answered, seen.failed, seen.held, seen.opened, seen.bytes, percentile(.5),
           percentile(.9), percentile(.99), percentile(1), cpu, seen.first_error);
}

static void usage(int code) {
    fprintf(code ? stderr : stdout,
            "load [-x PROXY_PORT] [options]\n"
            "  -x PORT     the proxy's; without it the origin is asked directly\n"
            "  -p PORT     the origin's (80)          -H NAME     the origin's (allowed.test)\n"
            "  -t CA_FILE  TLS to the origin, through CONNECT if there is a proxy; the roots to trust\n"
            "  -c N        connections (16)           -n          a new connection for each request\n"
            "  -d SECONDS  the window (2)             -w SECONDS  before it, not measured (0)\n"
            "  -u PATH     the request's (/)          -b BYTES    POST a body of that many\n"
            "  -l BYTES    the length that each answer must have\n"
            "  -q N        end the window early, at that many answers\n"
            "  -r          a refusal (4xx, at CONNECT or inside) is the answer to expect\n"
            "  -i          open all connections by CONNECT and hold them for the window\n");
    exit(code);
}

static void read_options(int count, char **words) {
    for (int o; (o = getopt(count, words, "x:p:H:t:c:nd:w:u:b:l:q:rih")) != -1;) switch (o) {
        case 'x': opt.proxy_port = atoi(optarg); break;
        case 'p': opt.origin_port = atoi(optarg); break;
        case 'H': opt.host = optarg; break;
        case 't': opt.tls = 1, opt.ca_file = optarg; break;
        case 'c': opt.connections = atoi(optarg); break;
        case 'n': opt.fresh = 1; break;
        case 'd': opt.seconds = atof(optarg); break;
        case 'w': opt.warm_up = atof(optarg); break;
        case 'u': opt.path = optarg; break;
        case 'b': opt.post = atol(optarg); break;
        case 'l': opt.expected = atol(optarg); break;
        case 'q': opt.enough = atol(optarg); break;
        case 'r': opt.refused = 1; break;
        case 'i': opt.hold = 1; break;
        case 'h': usage(0); break;
        default: usage(2);
        }
    if (opt.connections < 1 || opt.seconds <= 0 || (opt.hold && !opt.proxy_port)) usage(2);
}

static void write_requests(void) {
    char absolute[512] = "", length[64] = "";
    if (opt.proxy_port && !opt.tls) snprintf(absolute, sizeof absolute, "http://%s:%d", opt.host, opt.origin_port);
    if (opt.post) snprintf(length, sizeof length, "Content-Length: %ld\r\n", opt.post);
    tunnel_request_length = snprintf(tunnel_request, sizeof tunnel_request,
                                     "CONNECT %s:%d HTTP/1.1\r\nHost: %s:%d\r\n\r\n", opt.host, opt.origin_port,
                                     opt.host, opt.origin_port);
    request_length = snprintf(request, sizeof request,
                              "%s %s%s HTTP/1.1\r\nHost: %s:%d\r\nUser-Agent: load/1\r\nAccept: */*\r\n%s\r\n",
                              opt.post ? "POST" : "GET", absolute, opt.path, opt.host, opt.origin_port, length);
    if (tunnel_request_length >= (int)sizeof tunnel_request || request_length >= (int)sizeof request) usage(2);
}

static void set_up_tls(void) {
    context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF); /* a new connection is a whole handshake */
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_alpn_protos(context, (const unsigned char *)"\x08http/1.1", 9);
    SSL_CTX_set_verify(context, SSL_VERIFY_PEER, NULL);
    if (SSL_CTX_load_verify_locations(context, opt.ca_file, NULL)) return;
    fprintf(stderr, "cannot load %s\n", opt.ca_file);
    exit(2);
}

static double cpu_seconds(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec + (used.ru_utime.tv_usec + used.ru_stime.tv_usec) * 1e-6;
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    read_options(count, words);
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    peer.sin_family = AF_INET;
    peer.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    peer.sin_port = htons(opt.proxy_port ? opt.proxy_port : opt.origin_port);
    write_requests();
    if (opt.tls) set_up_tls();
    poller = epoll_create1(EPOLL_CLOEXEC);
    struct connection *all = calloc(opt.connections, sizeof *all);
    if (!all) abort();
    for (int i = 0; i < opt.connections; i++) all[i].fd = -1;
    double start = now();
    opens_at = start + (opt.hold ? 60 : opt.warm_up);
    closes_at = opens_at + opt.seconds;
    run(all);
    report(cpu_seconds());
    return 0;
}
