# One speech model on top of an image, as a layer of its own: add-models.sh makes `layer`.
ARG IMAGE
FROM ${IMAGE}
COPY layer /
