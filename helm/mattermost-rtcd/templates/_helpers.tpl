{{/* The chart's name, which labels carry. */}}
{{- define "mattermost-rtcd.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* What every object is called: the release's name, with the chart's in it. */}}
{{- define "mattermost-rtcd.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $made := contains $name .Release.Name | empty | not | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- .Values.fullnameOverride | default $made | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The name of an object of the release, made of a list: root, suffix. */}}
{{- define "mattermost-rtcd.object" -}}
{{- $suffix := last . -}}
{{- printf "%s-%s" (include "mattermost-rtcd.fullname" (first .) | trunc (sub 62 (len $suffix) | int) | trimSuffix "-") $suffix -}}
{{- end -}}

{{/* By these a Deployment finds its pods for ever: they cannot be changed in an upgrade. */}}
{{- define "mattermost-rtcd.selectorLabels" -}}
app.kubernetes.io/name: {{ include "mattermost-rtcd.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "mattermost-rtcd.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "mattermost-rtcd.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "mattermost-rtcd.serviceAccountName" -}}
{{- $own := .Values.serviceAccount.create | empty | not | ternary (include "mattermost-rtcd.fullname" .) "default" -}}
{{- .Values.serviceAccount.name | default $own -}}
{{- end -}}

{{/* An image's full name, of a list: root, its values. A repository that names a registry keeps it. */}}
{{- define "mattermost-rtcd.image" -}}
{{- $root := first . -}}
{{- $image := last . -}}
{{- $registry := $root.Values.global.imageRegistry | trimSuffix "/" -}}
{{- $host := $image.repository | splitList "/" | first -}}
{{- if and $registry (not (and (contains "/" $image.repository) (or (contains "." $host) (contains ":" $host)))) -}}
{{- $registry }}/
{{- end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{/* Names of the variables that an admin set, as YAML. */}}
{{- define "mattermost-rtcd.configured" -}}
{{- $names := dict -}}
{{- range $name, $value := .Values.configuration.environmentVariables }}{{ $_ := set $names $name (include "mattermost-rtcd.text" $value) }}{{ end -}}
{{- range .Values.configuration.env }}{{ $_ := set $names .name (.value | default "" | toString) }}{{ end -}}
{{- toYaml $names -}}
{{- end -}}

{{/* A value as the text of a variable. Texts that carry YAML's quotes, as this chart's predecessor asked for, lose them. */}}
{{- define "mattermost-rtcd.text" -}}
{{- if or (kindIs "map" .) (kindIs "slice" .) -}}
{{- toJson . -}}
{{- else if kindIs "float64" . -}}
{{- eq (floor .) . | ternary (printf "%.0f" .) (toString .) -}}
{{- else if kindIs "invalid" . -}}
{{- else if regexMatch "^(\".*\"|'.*')$" (toString .) -}}
{{- get (printf "text: %s" . | fromYaml) "text" | toString -}}
{{- else -}}
{{- toString . -}}
{{- end -}}
{{- end -}}

{{- define "mattermost-rtcd.scheme" -}}
{{- $own := get (include "mattermost-rtcd.configured" . | fromYaml) "RTCD_API_HTTP_TLS_ENABLE" -}}
{{- or .Values.tls.existingSecret (has (lower $own) (list "1" "t" "true")) | empty | not | ternary "HTTPS" "HTTP" -}}
{{- end -}}

{{/* "true" when there can be more than one pod. */}}
{{- define "mattermost-rtcd.several" -}}
{{- if or (eq .Values.deploymentType "daemonset") (gt (int .Values.configuration.replicas) 1) }}true{{ end -}}
{{- end -}}

{{/* The Service through which monitors come in. */}}
{{- define "mattermost-rtcd.monitorService" -}}
{{- if .Values.service.monitorPort -}}
{{- include "mattermost-rtcd.object" (list . "monitor") -}}
{{- else -}}
{{- include "mattermost-rtcd.apiService" . -}}
{{- end -}}
{{- end -}}

{{/* The Service through which the plugin comes in. */}}
{{- define "mattermost-rtcd.apiService" -}}
{{- if or (eq .Values.service.type "ClusterIP") .Values.service.exposeAPI -}}
{{- include "mattermost-rtcd.fullname" . -}}
{{- else -}}
{{- include "mattermost-rtcd.object" (list . "api") -}}
{{- end -}}
{{- end -}}
