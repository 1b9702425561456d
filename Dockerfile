# The page on any machine, installed as a Hugging Face Space installs it. docs/deployment.md says how to run it.
FROM python:3.12-slim
RUN useradd --create-home --uid 1000 medcot && install -d -o medcot -g medcot /data
WORKDIR /app
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt "gradio[oauth,mcp]==6.31.0" spaces==0.51.3
COPY app.py README.md ./
COPY medcot medcot
ENV MEDCOT_RUNS_DIR=/data/runs MEDCOT_CACHE=/data/cache HF_HOME=/data/hub PYTHONUNBUFFERED=1
USER medcot
VOLUME /data
EXPOSE 7860
# Refuses to start without MEDCOT_AUTH_FILE, a mounted secret that holds USER:PASSWORD, or MEDCOT_AUTH.
CMD ["python", "app.py", "--host", "0.0.0.0"]
