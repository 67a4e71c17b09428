# One of the lab's boxes, as ../versions.yml describes it: the same settings for
# libvirt and VirtualBox, and provisioning by the scripts of ../provision.
#
# Environment, for those who want it different:
#
#   LEAKLAB_BOX, LEAKLAB_BOX_VERSION   another Vagrant box
#   LEAKLAB_MEMORY, LEAKLAB_CPUS       of the machine
#   LEAKLAB_KERNEL                     another kernel (kmem)
#   LEAKLAB_LIBVIRT_DRIVER             kvm (default) or qemu, which emulates
#   LEAKLAB_VM_PREFIX                  begins the machine's name at the provider
#   LEAKLAB_BIN                        the binary to install (default: bin/leaklab)
#   LEAKLAB_CACHE                      where leaklab keeps its runtimes

require "yaml"

class LeaklabBox
  ROOT = File.expand_path("..", __dir__)
  VERSIONS = File.join(ROOT, "versions.yml")
  LOCK = File.join(ROOT, "versions.lock")

  # Where provisioning keeps its state in the box: lib/prelude.sh knows them too.
  SUMS_IN_BOX = "/var/lib/leaklab/sums"
  REBOOT_FLAG = "/var/lib/leaklab/reboot-wanted"
  UPLOADS = "/tmp/leaklab-upload"

  # A mistake in the data or the environment, told in one line.
  class Mistake < Vagrant::Errors::VagrantError
    def initialize(message)
      @told = message
      super()
    end

    def error_message
      @told
    end
  end

  def initialize(name)
    @name = name
    @data = YAML.safe_load(File.read(VERSIONS)).fetch("boxes").fetch(name)
  end

  def configure(config)
    config.vm.box = ENV.fetch("LEAKLAB_BOX", @data.fetch("box"))
    # A version belongs to the box that it was pinned for.
    version = ENV.fetch("LEAKLAB_BOX_VERSION", ENV["LEAKLAB_BOX"] ? nil : @data["box_version"])
    config.vm.box_version = version if version
    config.vm.box_check_update = false
    config.vm.define "leaklab-#{@name.tr('.', '-')}"
    # Nothing is shared: what the box needs is copied, and nothing of the user's
    # own can be changed from within.
    config.vm.synced_folder ".", "/vagrant", disabled: true
    providers(config)
    provision(config)
    finish(config)
  end

  private

  def memory
    Integer(ENV.fetch("LEAKLAB_MEMORY", @data.fetch("memory")))
  end

  def cpus
    Integer(ENV.fetch("LEAKLAB_CPUS", @data.fetch("cpus")))
  end

  def providers(config)
    config.vm.provider :libvirt do |libvirt|
      libvirt.memory = memory
      libvirt.cpus = cpus
      # The domain and its volume are called leaklab-<folder>, whatever folder
      # this clone is in.
      libvirt.default_prefix = ENV.fetch("LEAKLAB_VM_PREFIX", "")
      libvirt.driver = ENV["LEAKLAB_LIBVIRT_DRIVER"] if ENV["LEAKLAB_LIBVIRT_DRIVER"]
    end
    config.vm.provider :virtualbox do |virtualbox|
      virtualbox.memory = memory
      virtualbox.cpus = cpus
      virtualbox.name = "#{ENV['LEAKLAB_VM_PREFIX']}leaklab-#{@name}"
      virtualbox.check_guest_additions = false
    end
  end

  def provision(config)
    # Whoever brings the machine up for leaklab itself hands over no files: it
    # pushes what each arm needs.
    upload_leaklab(config) unless ENV["LEAKLAB_PUSHES"]
    @data.fetch("scripts").each do |script|
      config.vm.provision script, type: "shell", inline: text_of(script), env: settings, name: script
    end
  end

  # The prelude's functions, then the script: Vagrant uploads one file.
  def text_of(script)
    [File.join(ROOT, "lib", "prelude.sh"), File.join(ROOT, "provision", "#{script}.sh")]
      .map { |file| File.read(file) }.join("\n")
  end

  def settings
    chosen = (@data["settings"] || {}).dup
    chosen["KERNEL"] = kernel(chosen.fetch("KERNEL")) if chosen["KERNEL"]
    chosen.merge(
      "LEAKLAB_BOX_FOLDER" => @name,
      "DOWNLOADS" => downloads.map { |d| [d.fetch("name"), d.fetch("url"), sum_of(d) || "-"].join(" ") }.join(";")
    )
  end

  def kernel(default)
    wanted = ENV.fetch("LEAKLAB_KERNEL", default)
    # "862.9.1" is as good as "3.10.0-862.9.1.el7".
    wanted = "3.10.0-#{wanted.delete_prefix('-')}.el7" unless wanted.start_with?("3.10.0-")
    known = downloads.map { |d| d.fetch("name") }
    return wanted if known.include?(wanted)

    raise Mistake, "LEAKLAB_KERNEL: #{wanted} is not in vagrant/versions.yml, which has #{known.join(', ')}"
  end

  def downloads
    @data["downloads"] || []
  end

  # A checksum from the data, or from the lock of earlier downloads.
  def sum_of(download)
    download["sha256"] || lock[download.fetch("url")]
  end

  def lock
    return {} unless File.exist?(LOCK)

    File.readlines(LOCK, chomp: true).reject { |line| line.start_with?("#") || line.empty? }
        .to_h { |line| line.split(" ", 2).reverse }
  end

  # What only the host can do once the scripts have run: boot again where one of
  # them wants it, and keep the checksums that they have recorded.
  def finish(config)
    box = self
    config.trigger.after :up, :provision do |trigger|
      trigger.ruby do |_env, machine|
        box.send(:reboot, machine)
        box.send(:record, machine)
      end
    end
  end

  def reboot(machine)
    return unless machine.communicate.test("test -f #{REBOOT_FLAG}", sudo: true)

    machine.communicate.sudo("rm -f #{REBOOT_FLAG}")
    machine.ui.info("booting again, as a script has asked for")
    machine.guest.capability(:reboot)
  end

  # The lock holds the next machine to what this one has downloaded.
  def record(machine)
    text = +""
    machine.communicate.sudo("cat #{SUMS_IN_BOX} 2>/dev/null || true") { |type, data| text << data if type == :stdout }
    merged = lock.merge(text.lines(chomp: true).to_h { |line| line.split(" ", 2).reverse }) { |_url, old, _new| old }
    return if merged == lock

    lines = merged.sort.map { |url, sum| "#{sum} #{url}\n" }
    File.write(LOCK, "# SHA-256 of what the boxes have downloaded, recorded the first time.\n#{lines.join}")
  end

  # A built binary, and what it has in its cache for this box's arms.
  def upload_leaklab(config)
    bin = ENV.fetch("LEAKLAB_BIN", File.expand_path("../bin/leaklab", ROOT))
    return unless File.file?(bin)

    config.vm.provision "clean-upload", type: "shell", name: "clean-upload",
                                        inline: "rm -rf #{UPLOADS} && install -d -o vagrant #{UPLOADS} #{UPLOADS}/runtimes"
    config.vm.provision "binary", type: "file", source: bin, destination: "#{UPLOADS}/leaklab"
    runtimes.each do |dir|
      config.vm.provision "runtime #{File.basename(dir)}", type: "file", source: dir,
                                                            destination: "#{UPLOADS}/runtimes/#{File.basename(dir)}"
    end
  end

  def runtimes
    cache = ENV["LEAKLAB_CACHE"] || File.join(ENV.fetch("XDG_CACHE_HOME", File.join(Dir.home, ".cache")), "leaklab")
    (@data["carry"] || []).flat_map { |pattern| Dir.glob(File.join(cache, "runtimes", "#{pattern}-*", "manifest.json")) }
                          .map { |manifest| File.dirname(manifest) }.reject { |dir| dir.end_with?(".making") }.uniq.sort
  end
end
