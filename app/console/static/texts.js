// Every text of the console, in both languages, under the same keys.
export const texts = {
  en: {
    otherLanguage: "中文",
    models: "Models",
    more: "More",
    api: "API",
    deployName: "Deploy name",
    topNum: "Classes to show (top_num)",
    token: "Access token, if one is needed",
    drop: "Drop pictures here, paste one, or",
    choose: "choose pictures",
    busy: "Asking about {file} ({index} of {count}) …",
    done: "{count} answered, {failed} with an error.",
    original: "Your picture: {file}",
    seen: "As the model saw it: {file}",
    classes: "Classes",
    stages: "Milliseconds by stage",
    total: "seen from here",
    request: "The request, to copy",
    client: "Language",
    copy: "Copy",
    copied: "Copied.",
    meaning: "What it means",
    detail: "What was wrong",
    todo: "What to do",
    unreachable: "The server does not answer.",
    unreachableTodo: "See whether it still runs: /healthz answers when it does.",
    tooBig: "The file has {size} MiB and was not sent: 4 MiB of base64, which is a file of 3 MiB, is the most.",
    none: "No model can be called. /readyz says why.",
    broken: "Cannot be served, /readyz says why: {names}",
    version: "Version",
    engine: "Engine",
    device: "Device",
    digest: "Digest of the package",
    input: "Input",
    output: "Output",
    preprocess: "Preprocessing",
    labels: "Labels ({count})",
    tryIt: "Try it",
    errors: {
      336000: ["The server failed unexpectedly.", "Look the log_id up in the server's log (classifyd logs LOG_ID): the traceback is there. Other requests are not affected."],
      336001: ["A parameter has the wrong type or value, or no model is deployed under this name.", "Compare the request with /docs; top_num must be a whole number from 1 on. GET /readyz lists the deploy names."],
      336002: ["The body is not JSON.", "Send a JSON object such as {\"image\": \"…\"}, and look at how the body is put together and encoded (UTF-8)."],
      336003: ["The image is not plain base64.", "Encode the file's bytes as standard base64, without a data: header, without URL encoding, with its padding."],
      336004: ["The image is too large or too small.", "At most 4 MiB of base64 (a file of 3 MiB), shortest side from 15 px, longest side up to 4096 px: scale the picture before sending."],
      336005: ["The image cannot be decoded.", "Send a complete jpg, png or bmp. Convert other formats first, and see that the file was not cut short."],
      336006: ["A required parameter is missing.", "Put the image into the field image."],
      336100: ["The model is not available for the moment: loading, overloaded or shutting down.", "Try again after the seconds in Retry-After. If it stays so, /readyz names the reason."],
      337000: ["The access token or the server's licence does not allow this call.", "Enter a valid access token above; the detail says whether it is the token or the licence. An operator makes one with classifyd token add NAME."],
    },
  },
  zh: {
    otherLanguage: "English",
    models: "模型",
    more: "更多",
    api: "接口文档",
    deployName: "部署名称",
    topNum: "返回的类别数（top_num）",
    token: "访问令牌（如需要）",
    drop: "把图片拖到这里、直接粘贴，或",
    choose: "选择图片",
    busy: "正在识别 {file}（第 {index} 张，共 {count} 张）……",
    done: "完成 {count} 张，其中 {failed} 张出错。",
    original: "原图：{file}",
    seen: "模型看到的图：{file}",
    classes: "类别",
    stages: "各阶段耗时（毫秒）",
    total: "浏览器测得",
    request: "对应的请求，可复制",
    client: "语言",
    copy: "复制",
    copied: "已复制。",
    meaning: "含义",
    detail: "具体原因",
    todo: "处理办法",
    unreachable: "服务没有响应。",
    unreachableTodo: "请确认服务仍在运行：正常时 /healthz 会有应答。",
    tooBig: "文件有 {size} MiB，没有发送：base64 最多 4 MiB，即文件最多 3 MiB。",
    none: "没有可以调用的模型，原因见 /readyz。",
    broken: "无法提供服务，原因见 /readyz：{names}",
    version: "版本",
    engine: "推理引擎",
    device: "设备",
    digest: "模型包摘要",
    input: "输入",
    output: "输出",
    preprocess: "预处理",
    labels: "标签（{count} 个）",
    tryIt: "试一试",
    errors: {
      336000: ["服务内部错误。", "用 log_id 查服务日志（classifyd logs LOG_ID），其中有完整的错误栈。其他请求不受影响。"],
      336001: ["参数的类型或取值不对，或没有以此名称部署的模型。", "请对照 /docs 检查请求；top_num 必须是不小于 1 的整数。GET /readyz 列出所有部署名称。"],
      336002: ["请求体不是 JSON。", "请发送形如 {\"image\": \"…\"} 的 JSON 对象，并检查请求体的拼接方式和编码（UTF-8）。"],
      336003: ["图片不是标准 base64。", "请对文件字节做标准 base64 编码：不带 data: 头，不做 URL 编码，保留末尾的填充。"],
      336004: ["图片过大或过小。", "base64 最多 4 MiB（文件约 3 MiB），最短边不小于 15 px，最长边不大于 4096 px，请先缩放再发送。"],
      336005: ["图片无法解码。", "请发送完整的 jpg、png 或 bmp；其他格式先转换，并检查文件是否被截断。"],
      336006: ["缺少必要参数。", "请把图片放在 image 字段中。"],
      336100: ["模型暂时不可用：正在加载、过载或正在停止。", "请在 Retry-After 所给的秒数后重试；若持续如此，/readyz 会说明原因。"],
      337000: ["访问令牌或服务的授权不允许这次调用。", "请在上方填入有效的访问令牌；具体原因会说明是令牌还是授权的问题。管理员用 classifyd token add NAME 生成令牌。"],
    },
  },
};

const stored = localStorage.getItem("language");
export let language = stored || (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");

export function switchLanguage() {
  language = language === "zh" ? "en" : "zh";
  localStorage.setItem("language", language);
}

export function text(key, values = {}) {
  return texts[language][key].replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

export function errorText(code) {
  return texts[language].errors[code] || ["", ""];
}
