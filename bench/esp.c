/* ESP in UDP with AES-256-GCM (RFC 4303, 4106, 3948) in C, by the same batches as ours: what OpenSSL and this kernel give.
 *
 *     esp send FD GROUP PORT SIZE SECONDS KEYMAT      on a socket that is open; KEYMAT is 36 bytes in hexadecimal
 *     esp receive FD SIZE KEYMAT                      until the socket's receive timeout
 *
 * Prints thousands of packets a second: sent, or opened whose numbers in the payload were new. The anti-replay window
 * is of 1,024 packets (RFC 6479). There is one SA and nothing is looked up for it: that favours this program.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define AT_ONCE 8          /* batches in one system call */
#define SLAB 65536         /* bytes of a batch */
#define SPI 0x00100001u
#define WINDOW 1024
#define BLOCKS 32          /* of 64 bits: the window, and one block more, rounded to a power of two */
#define MOST (1u << 24)    /* numbers that are remembered */

static uint8_t slabs[AT_ONCE][SLAB], controls[AT_ONCE][CMSG_SPACE(sizeof(int))], salt[4], plain[SLAB];
static struct mmsghdr messages[AT_ONCE];
static struct iovec vectors[AT_ONCE];
static uint64_t window[BLOCKS];
static uint32_t highest;
static EVP_CIPHER_CTX *cipher;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void check(int fine, const char *what) {
    if (!fine) { perror(what); exit(1); }
}

static void make_cipher(const char *hex, int encrypts) {
    uint8_t keymat[36];
    for (int n = 0; n < 36; n++) check(sscanf(hex + 2 * n, "%2hhx", &keymat[n]) == 1, "keymat");
    memcpy(salt, keymat + 32, 4);
    cipher = EVP_CIPHER_CTX_new();
    check(EVP_CipherInit_ex(cipher, EVP_aes_256_gcm(), NULL, keymat, NULL, encrypts) == 1, "cipher");
}

static void begin(const uint8_t *packet) { /* the nonce is salt and IV, the associated data SPI and number */
    uint8_t nonce[12];
    int length;
    memcpy(nonce, salt, 4);
    memcpy(nonce + 4, packet + 8, 8);
    check(EVP_CipherInit_ex(cipher, NULL, NULL, NULL, nonce, -1) == 1, "nonce");
    check(EVP_CipherUpdate(cipher, NULL, &length, packet, 8) == 1, "associated data");
}

static int framed(int size) { return (8 + size + 2 + 3) / 4 * 4; }

static void seal(uint8_t *packet, uint32_t number, int size) {
    int length, whole = framed(size), padding = whole - 10 - size;
    uint32_t header[4] = {htonl(SPI), htonl(number), 0, htonl(number)};
    uint16_t udp[4] = {htons(5004), htons(5004), htons(8 + size), 0};
    uint64_t in_payload = number;
    memcpy(packet, header, 16);
    memcpy(plain, udp, 8);
    memset(plain + 8, 0, size);
    memcpy(plain + 8, &in_payload, 8); /* the application's part */
    for (int n = 0; n < padding; n++) plain[8 + size + n] = n + 1;
    plain[whole - 2] = padding, plain[whole - 1] = 17;
    begin(packet);
    check(EVP_EncryptUpdate(cipher, packet + 16, &length, plain, whole) == 1, "seal");
    check(EVP_EncryptFinal_ex(cipher, packet + 16 + whole, &length) == 1, "seal");
    check(EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_GET_TAG, 16, packet + 16 + whole) == 1, "tag");
}

static int fresh(uint32_t number) {
    if (number > highest) return 1;
    if (number == 0 || number + WINDOW <= highest) return 0;
    return !(window[number / 64 % BLOCKS] >> number % 64 & 1);
}

static void strike_out(uint32_t number) {
    if (number > highest) {
        uint32_t block = highest / 64, steps = number / 64 - block;
        for (uint32_t n = 0; n < steps && n < BLOCKS; n++) window[++block % BLOCKS] = 0;
        highest = number;
    }
    window[number / 64 % BLOCKS] |= 1ull << number % 64;
}

static const uint8_t *open_packet(uint8_t *packet, int length, int size) { /* the payload, or NULL */
    uint32_t spi, number;
    int done, whole = length - 32;
    if (length < 44) return NULL;
    memcpy(&spi, packet, 4), memcpy(&number, packet + 4, 4);
    number = ntohl(number);
    if (ntohl(spi) != SPI || !fresh(number)) return NULL;
    begin(packet);
    check(EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_AEAD_SET_TAG, 16, packet + length - 16) == 1, "tag");
    if (EVP_DecryptUpdate(cipher, plain, &done, packet + 16, whole) != 1) return NULL;
    if (EVP_DecryptFinal_ex(cipher, plain + done, &done) != 1) return NULL;
    strike_out(number);
    int padding = plain[whole - 2], end = whole - 2 - padding;
    if (plain[whole - 1] != 17 || end != 8 + size || (plain[4] << 8 | plain[5]) != end) return NULL;
    for (int n = 0; n < padding; n++) if (plain[end + n] != n + 1) return NULL;
    return plain + 8;
}

static void prepare(size_t length, struct sockaddr_in *to) {
    for (int n = 0; n < AT_ONCE; n++) {
        vectors[n] = (struct iovec){slabs[n], length};
        messages[n].msg_hdr = (struct msghdr){to, to ? sizeof *to : 0, &vectors[n], 1, controls[n], 0, 0};
    }
}

static double send_all(int door, struct sockaddr_in to, int size, double seconds) {
    int segment = framed(size) + 32, each = 65507 / segment < 64 ? 65507 / segment : 64;
    uint32_t number = 0;
    uint16_t cut = segment;
    prepare((size_t)segment * each, &to);
    for (int n = 0; n < AT_ONCE; n++) {
        messages[n].msg_hdr.msg_controllen = CMSG_SPACE(sizeof cut);
        struct cmsghdr *control = CMSG_FIRSTHDR(&messages[n].msg_hdr);
        control->cmsg_level = SOL_UDP, control->cmsg_type = UDP_SEGMENT, control->cmsg_len = CMSG_LEN(sizeof cut);
        memcpy(CMSG_DATA(control), &cut, sizeof cut);
    }
    double started = now();
    while (now() - started < seconds) {
        for (int n = 0; n < AT_ONCE; n++)
            for (int k = 0; k < each; k++) seal(slabs[n] + k * segment, ++number, size);
        for (int sent = 0, more; sent < AT_ONCE; sent += more)
            check((more = sendmmsg(door, messages + sent, AT_ONCE - sent, 0)) > 0, "sendmmsg");
    }
    return number / (now() - started) / 1000;
}

static double receive_all(int door, int size) {
    static uint8_t seen[MOST];
    int on = 1, off = 0, first = 0, count = 0;
    double started = 0, ended = 0;
    check(setsockopt(door, SOL_UDP, UDP_GRO, &on, sizeof on) == 0, "UDP_GRO");
    check(setsockopt(door, SOL_SOCKET, SO_RXQ_OVFL, &off, sizeof off) == 0, "SO_RXQ_OVFL"); /* its message isn't wanted */
    for (;;) {
        prepare(SLAB, NULL);
        for (int n = 0; n < AT_ONCE; n++) messages[n].msg_hdr.msg_controllen = sizeof controls[n];
        int got = recvmmsg(door, messages, AT_ONCE, MSG_WAITFORONE, NULL);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            if (count) return (count - first) / (ended - started) / 1000;
            continue;
        }
        check(got > 0, "recvmmsg");
        for (int n = 0; n < got; n++) {
            int length = messages[n].msg_len, segment = length;
            struct cmsghdr *control = CMSG_FIRSTHDR(&messages[n].msg_hdr);
            if (control && control->cmsg_type == UDP_GRO) memcpy(&segment, CMSG_DATA(control), sizeof segment);
            for (int start = 0; start < length; start += segment) {
                int rest = length - start < segment ? length - start : segment;
                const uint8_t *payload = open_packet(slabs[n] + start, rest, size);
                uint64_t number;
                if (!payload) continue;
                memcpy(&number, payload, sizeof number); /* the application's part */
                if (number < MOST && !seen[number]) seen[number] = 1, count++;
            }
        }
        ended = now();
        if (!first) first = count, started = ended;
    }
}

int main(int count, char **argument) {
    if (count == 8 && !strcmp(argument[1], "send")) {
        struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argument[4]))};
        check(inet_aton(argument[3], &to.sin_addr), "address");
        make_cipher(argument[7], 1);
        printf("%.1f\n", send_all(atoi(argument[2]), to, atoi(argument[5]), atof(argument[6])));
    } else if (count == 5 && !strcmp(argument[1], "receive")) {
        make_cipher(argument[4], 0);
        printf("%.1f\n", receive_all(atoi(argument[2]), atoi(argument[3])));
    } else {
        return fprintf(stderr, "see the top of esp.c\n"), 2;
    }
    return 0;
}
