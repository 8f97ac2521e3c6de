<?php
// PHP 8, without an extension: php client.php
const URL = 'http://127.0.0.1:8000/imagenet/ImageClassification';
const IMAGE = 'photo.jpg';
const TOP_NUM = 5;
const TOKEN = '';

$body = ['image' => base64_encode(file_get_contents(IMAGE)), 'top_num' => TOP_NUM];
$context = stream_context_create(['http' => [
    'method' => 'POST',
    'header' => ['Content-Type: application/json', 'Authorization: Bearer ' . TOKEN],
    'content' => json_encode($body),
    'ignore_errors' => true,
]]);
$answer = json_decode(file_get_contents(URL, false, $context), true);

if (isset($answer['error_code'])) {
    fwrite(STDERR, "{$answer['error_code']} {$answer['error_msg']}, log_id {$answer['log_id']}\n");
    exit(1);
}
foreach ($answer['results'] as $result) {
    printf("%.4f  %s\n", $result['score'], $result['name']);
}
