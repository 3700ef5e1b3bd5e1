{{/* The container's environment: what the chart knows, then `config`, which goes before it name by name. */}}
{{- define "mattermost-calls-offloader.environment" -}}
{{- $configured := include "mattermost-calls-offloader.configured" . | fromYaml -}}
{{- range include "mattermost-calls-offloader.ownEnvironment" . | fromYamlArray }}
{{- if not (hasKey $configured .name) }}
{{ toYaml (list .) }}
{{- end }}
{{- end }}
{{- with .Values.config }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A variable from a Secret, of a list: name, Secret, key. */}}
{{- define "mattermost-calls-offloader.fromSecret" -}}
- name: {{ index . 0 }}
  valueFrom:
    secretKeyRef:
      name: {{ index . 1 }}
      key: {{ index . 2 }}
{{- end -}}

{{- define "mattermost-calls-offloader.ownEnvironment" -}}
{{- if include "mattermost-calls-offloader.onWorkers" . }}
{{ include "mattermost-calls-offloader.celeryEnvironment" . }}
- name: JOBS_CELERY_OWNURL
  value: http://$(POD_IP):{{ .Values.service.targetPort }}
{{- with .Values.workers.jobLabels }}
- name: JOBS_CELERY_LABELS
  value: {{ toJson . | quote }}
{{- end }}
{{- else }}
- name: K8S_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
{{- end }}
- name: API_HTTP_LISTENADDRESS
  value: {{ printf ":%v" .Values.service.targetPort | quote }}
- name: JOBS_APITYPE
  value: {{ .Values.jobs.apiType }}
- name: LOGGER_ENABLEFILE
  value: "false"
{{- if or .Values.database.url .Values.database.existingSecret }}
{{ include "mattermost-calls-offloader.fromSecret" (list "STORE_DATASOURCE" (include "mattermost-calls-offloader.databaseSecret" .) (.Values.database.existingSecret | empty | not | ternary .Values.database.existingSecretKey "url")) }}
{{- end }}
{{- with include "mattermost-calls-offloader.keySecret" . }}
{{ include "mattermost-calls-offloader.fromSecret" (list "OFFLOADER_SECRET_KEY" . ($.Values.secretKey.existingSecret | empty | not | ternary $.Values.secretKey.existingSecretKey "key")) }}
{{- end }}
{{- if .Values.admin.enabled }}
- name: API_SECURITY_ENABLEADMIN
  value: "true"
{{- with .Values.admin.existingSecret }}
{{ include "mattermost-calls-offloader.fromSecret" (list "API_SECURITY_ADMINSECRETKEY" . $.Values.admin.existingSecretKey) }}
{{- end }}
{{- end }}
{{- if .Values.tls.existingSecret }}
- name: API_HTTP_TLS_ENABLE
  value: "true"
- name: API_HTTP_TLS_CERTFILE
  value: /etc/calls-offloader/tls/tls.crt
- name: API_HTTP_TLS_CERTKEY
  value: /etc/calls-offloader/tls/tls.key
{{- end }}
{{- with .Values.jobs.siteURLOverrides }}
- name: JOBS_SITEURLOVERRIDES
  value: {{ toJson . | quote }}
{{- end }}
{{ include "mattermost-calls-offloader.copiesEnvironment" . }}
{{- if not (include "mattermost-calls-offloader.onWorkers" .) }}
{{ include "mattermost-calls-offloader.kubernetesEnvironment" . }}
{{- end }}
{{- end -}}

{{/* How many jobs' pods there are, and what they are like. */}}
{{- define "mattermost-calls-offloader.kubernetesEnvironment" -}}
- name: JOBS_MAXCONCURRENTJOBS
  value: "4"
{{- if .Values.jobs.useReferenceImages }}
- name: JOBS_USEREFERENCEIMAGES
  value: "true"
{{- else }}
- name: JOBS_RUNNERIMAGES
  value: {{ dict "*/calls-recorder:*" (include "mattermost-calls-offloader.image" (list . .Values.jobs.images.recorder)) "*/calls-transcriber:*" (include "mattermost-calls-offloader.image" (list . .Values.jobs.images.transcriber)) | toJson | quote }}
{{- end }}
{{- with include "mattermost-calls-offloader.jobsClaim" . }}
- name: JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMNAME
  value: {{ . }}
{{- end }}
{{- with include "mattermost-calls-offloader.jobsMount" . | fromYaml }}
{{- if eq .claimName (include "mattermost-calls-offloader.jobsClaim" $) }}
- name: JOBS_KUBERNETES_PERSISTENTVOLUMECLAIMDIR
  value: {{ .mountPath }}
{{- end }}
{{- end }}
- name: JOBS_KUBERNETES_INSTANCE
  value: {{ include "mattermost-calls-offloader.instance" . }}
{{- with .Values.jobs.prepullNodes }}
- name: JOBS_KUBERNETES_PREPULLNODES
  value: {{ . | quote }}
{{- end }}
{{- with .Values.jobs.resources }}
- name: JOBS_KUBERNETES_JOBSRESOURCEREQUIREMENTS
  value: {{ toJson . | quote }}
{{- end }}
{{- with .Values.jobs.tolerations }}
- name: K8S_JOB_POD_TOLERATIONS
  value: {{ toJson . | quote }}
{{- end }}
{{- with .Values.jobs.nodeSysctls }}
- name: JOBS_KUBERNETES_NODESYSCTLS
  value: {{ . | quote }}
{{- end }}
{{- with .Values.jobs.nodeSysctlsImage }}
- name: JOBS_KUBERNETES_NODESYSCTLSIMAGE
  value: {{ . | quote }}
{{- end }}
{{- with .Values.jobs.caBundle.configMap }}
- name: JOBS_KUBERNETES_CACONFIGMAP
  value: {{ printf "%s/%s" . $.Values.jobs.caBundle.key }}
{{- end }}
{{- with .Values.jobs.modelsClaim }}
- name: JOBS_KUBERNETES_MODELSCLAIMNAME
  value: {{ . }}
{{- end }}
{{- if or .Values.jobs.podTemplate .Values.imagePullSecrets }}
- name: JOBS_KUBERNETES_PODTEMPLATE
  value: {{ include "mattermost-calls-offloader.podTemplate" . | quote }}
{{- end }}
{{- if .Values.jobs.privileged }}
- name: SECURITY_CONTEXT_PRIVILEGED
  value: "true"
{{- end }}
{{- end -}}

{{/* What is changed in the jobs' pods, by job type, as JSON; the release's registry credentials are theirs too. */}}
{{- define "mattermost-calls-offloader.podTemplate" -}}
{{- $templates := dict -}}
{{- range list "recording" "transcribing" -}}
{{- $own := get $.Values.jobs.podTemplate . | default dict -}}
{{- with $.Values.imagePullSecrets }}{{ $own = merge (deepCopy $own) (dict "spec" (dict "imagePullSecrets" .)) }}{{ end -}}
{{- if $own }}{{ $_ := set $templates . $own }}{{ end -}}
{{- end -}}
{{- toJson $templates -}}
{{- end -}}
