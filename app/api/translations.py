"""The description of the API in Chinese, by its English texts."""

from app.api.schemas import MAX_BATCH_IMAGES

LANGUAGES = ("en", "zh")

CHINESE = {
    # The page.
    ".": "。",
    "Answers": "应答",
    "Body": "请求体",
    "Console": "控制台",
    "Default": "默认",
    "Errors": "错误",
    "Everything else is an error:": "其余情况都是错误，见",
    "HTTP status": "HTTP 状态码",
    "Headers of an answer": "应答的响应头",
    "Language": "语言",
    "Pages": "页面",
    "Schemas": "数据结构",
    "Served now:": "当前提供：",
    "What exactly was wrong is in the header X-Error-Detail and, under the log_id, "
    "in the server's log.": "具体原因见响应头 X-Error-Detail，也可用 log_id 在服务日志中查到。",
    "an error": "错误示例",
    "classifyd: the API": "classifyd：接口文档",
    "field": "字段",
    "meaning": "含义",
    "no": "否",
    "required": "必填",
    "result": "成功示例",
    "type": "类型",
    "yes": "是",
    # Types.
    " or ": "或",
    "array": "数组",
    "boolean": "布尔值",
    "integer": "整数",
    "list of": "列表，元素为",
    "null": "null",
    "number": "数字",
    "object": "对象",
    "of digits": "（全为数字）",
    "string": "字符串",
    # The calls.
    "A local server for trained image classifiers, compatible with EasyDL's local image "
    "classification service.": "图像分类模型的本地服务器，与 EasyDL 图像分类本地服务兼容。",
    "Classify one image.": "识别一张图片。",
    "The body is read as JSON whatever its Content-Type; any query string is accepted. jpg, png "
    "or bmp; at most 4,194,304 characters of base64; sides of 15 to 4096 px.": "无论 Content-Type "
    "为何，请求体都按 JSON 读取；任何查询串都接受。图片为 jpg、png 或 bmp，base64 不超过 4,194,304 "
    "个字符，边长 15 到 4096 px。",
    "Classify several images.": "一次识别多张图片。",
    f"At most {MAX_BATCH_IMAGES} images and 32 MiB in all, each within the limits of the single "
    "call. The call fails as a whole only when it cannot be read.": f"最多 {MAX_BATCH_IMAGES} "
    "张图片，请求体不超过 32 MiB，每张图片的限制与单张识别相同。只有请求无法读取时才会整体失败。",
    "The name under which the model is deployed; GET /readyz lists them.": "模型的部署名称；"
    "GET /readyz 会列出所有名称。",
    "Whether the process answers.": "进程是否应答。",
    "Whether every deploy name can be served, and if not, why.": "所有部署名称是否都能提供服务，"
    "不能时给出原因。",
    "Numbers of all workers for Prometheus.": "供 Prometheus 采集的所有工作进程的指标。",
    "This description.": "本说明。",
    "red square": "红色方块",
    "two images": "两张图片",
    # The answers.
    "A result, or an error: then the body has error_code.": "识别结果；出错时应答中有 error_code。",
    "A result.": "识别结果。",
    "Always.": "总是如此。",
    "Ready.": "已就绪。",
    "Not ready, for the reasons named.": "未就绪，原因见应答。",
    "For each deploy name what answers it.": "每个部署名称由什么作答。",
    "For each deploy name that cannot be served, why.": "无法提供服务的部署名称及其原因。",
    "Prometheus' text format.": "Prometheus 文本格式。",
    # The fields.
    "One image. Keys that are not listed are ignored.": "一张图片。未列出的字段会被忽略。",
    "Several images. Keys that are not listed are ignored.": "多张图片。未列出的字段会被忽略。",
    "The image file in base64, without a data: header.": "图片文件的 base64，不带 data: 头。",
    "How many classes to return.": "返回的类别数。",
    "Each as image of ClassifyRequest; what is wrong with one is answered in its place.": "每个元素"
    "与 ClassifyRequest 的 image 相同；某一张出错时，在它的位置上给出错误。",
    "Names this request in the log and in the header X-Log-Id.": "本次请求的编号，与日志和响应头 "
    "X-Log-Id 中的相同。",
    "The classes by descending score, equal scores by class index.": "按分数从高到低排列的类别，"
    "分数相同时按类别序号。",
    "The label of the class.": "类别名称。",
    "The model's float32, unrounded.": "模型输出的 float32，未经舍入。",
    "What exactly was wrong; only with error_detail = body.": "具体原因；仅在 error_detail = body "
    "时出现。",
    "What exactly was wrong with this image.": "这张图片的具体问题。",
    "For each image, in their order, its results or its error.": "按图片顺序给出各自的结果或错误。",
    # The headers.
    "The log_id, also of answers that have none in the body.": "log_id；应答体中没有时也会给出。",
    "The version of the model that answered.": "作出应答的模型版本。",
    "What exactly was wrong, in ASCII; it never repeats image data.": "具体原因，ASCII 英文；"
    "不会包含图片数据。",
    "Milliseconds by stage (W3C Server Timing).": "各阶段耗时，毫秒（W3C Server Timing）。",
    "With 336100: seconds after which to try again.": "336100 时给出：多少秒后重试。",
    # The errors.
    "An unexpected failure; the traceback is in the log under the answer's log_id.": "意外失败；"
    "可用应答中的 log_id 在日志中查到错误栈。",
    "A parameter of the wrong type or value, or a form in place of JSON.": "参数的类型或取值不对，"
    "或发送了表单而不是 JSON。",
    "No model is deployed under the name in the path.": "没有以路径中的名称部署的模型。",
    "The body is not JSON.": "请求体不是 JSON。",
    "The image is not plain base64.": "图片不是标准 base64。",
    "More than 4 MiB of base64, or a side outside 15 to 4096 px.": "base64 超过 4 MiB，"
    "或边长不在 15 到 4096 px 之间。",
    "Not a complete jpg, png or bmp.": "不是完整的 jpg、png 或 bmp。",
    "A required parameter is absent.": "缺少必要参数。",
    "Loading, overloaded, past the deadline, or shutting down.": "正在加载、过载、超过期限"
    "或正在停止。",
    "The licence does not cover this request, or it carries no valid access token.": "授权不覆盖"
    "本次请求，或请求没有有效的访问令牌。",
}


def say(text: str, language: str) -> str:
    """Say an English text of the description in a language; what is no text stays as it is."""
    return CHINESE.get(text, text) if language == "zh" else text
