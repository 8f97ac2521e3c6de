<?php
// PHP 8, without an extension (https needs openssl): php client.php
const URL = 'http://127.0.0.1:8000/imagenet/ImageClassification';
const IMAGE = 'photo.jpg';
const TOP_NUM = 5;
const TOKEN = '';
const CA = '';  // PEM file of your own certificate authority

function fail(string $why): never
{
    fwrite(STDERR, "$why\n");
    exit(1);
}

// Return the answer, and the headers of its HTTP response by their names in lower case.
function classify(string $image): array
{
    $context = stream_context_create([
        'http' => [
            'method' => 'POST',
            'header' => ['Content-Type: application/json', 'Authorization: Bearer ' . TOKEN],
            'content' => json_encode(['image' => base64_encode($image), 'top_num' => TOP_NUM]),
            'ignore_errors' => true,  // with http_status = rest; the answer is in the body
        ],
        'ssl' => CA === '' ? [] : ['cafile' => CA],
    ]);
    $stream = @fopen(URL, 'rb', false, $context) ?: fail(error_get_last()['message']);
    $answer = json_decode(stream_get_contents($stream), true) ?? fail('the answer is not JSON');
    $headers = [];
    foreach (stream_get_meta_data($stream)['wrapper_data'] as $line) {
        [$name, $value] = explode(':', $line, 2) + [1 => ''];
        $headers[strtolower($name)] = trim($value);
    }
    return [$answer, $headers];
}

$image = @file_get_contents(IMAGE);
if ($image === false) {
    fail(error_get_last()['message']);
}
[$answer, $headers] = classify($image);
if (($answer['error_code'] ?? 0) === 336100) {
    sleep((int) $headers['retry-after']);
    [$answer, $headers] = classify($image);
}

if (isset($answer['error_code'])) {
    $detail = $headers['x-error-detail'];
    fail("{$answer['error_code']} {$answer['error_msg']}: $detail, log_id {$answer['log_id']}");
}
foreach ($answer['results'] as $result) {
    printf("%.4f  %s\n", $result['score'], $result['name']);
}
